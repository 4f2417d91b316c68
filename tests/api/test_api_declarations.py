"""What must hold of every declaration, whatever it declares."""

from __future__ import annotations

import jsonschema_rs
import pytest

from api.api_cloud import Cloud
from kilonova.api.microversion.version import LATEST
from kilonova.api.operation import ANYONE, WEIGHED, Operation
from kilonova.api.operations import all_operations
from kilonova.policy.enforcer import Enforcer

_ALL = list(all_operations())
_OPEN = {"/flavors", "/flavors/detail", "/flavors/{flavor_id}"}


@pytest.mark.parametrize("operation", _ALL, ids=lambda o: f"{o.method} {o.path} {o.action or ''} {o.since}")
def test_a_declaration_is_whole(operation: Operation) -> None:
    assert 1 <= operation.since <= operation.until <= LATEST
    if operation.rule not in (ANYONE, WEIGHED):
        assert operation.rule in Enforcer()
    if operation.rule == ANYONE and operation.method == "GET" and operation.path not in _OPEN:
        assert operation.function.__name__ == "answer"  # what is gone or not there yet
    for version in range(operation.since, operation.until + 1, 7):
        for schema in (operation.body, operation.query):
            if schema is not None:
                jsonschema_rs.meta.validate(schema.schema(version))
        assert 200 <= operation.status(version) < 300


@pytest.mark.parametrize("who", ["member", "demo-admin"])
async def test_a_server_can_be_shown_in_every_version(cloud: Cloud, who: str) -> None:
    uuid = await cloud.active()
    seen: set[str] = set()
    for version in range(1, LATEST + 1):
        spelled = f"2.{version}"
        one = (await cloud.get(f"/servers/{uuid}", who=who, version=spelled))["server"]
        many = (await cloud.get("/servers/detail", who=who, version=spelled))["servers"]
        one.pop("server_groups", None)
        assert many == [one]
        assert not seen - one.keys() or version == 47  # fields only come
        seen |= one.keys()
    assert ("OS-EXT-SRV-ATTR:host" in seen) is (who == "demo-admin")
