"""Whatever a client sends, the network API answers below 500 (but 501 for what it has not)."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from image.fuzzing import NAMES, objects, queries, values
from kilonova.network.face import RESOURCES
from network.network_cloud import Cloud

RUNS = settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
KIND = st.sampled_from(RESOURCES)
NAMED = sorted({name for each in RESOURCES for name in [*each.attributes, *each.columns, *each.flags, *each.special]})
FITTING = ["ip_address", "subnet_id", "start", "end", "destination", "nexthop", *NAMED]


def fine(status: int) -> bool:
    return status < 500 or status == 501


@RUNS
@given(kind=KIND, data=st.data())
async def test_create_and_update(cloud: Cloud, kind: Any, data: Any) -> None:
    network, subnet = await cloud.net(f"10.{RUNS.max_examples % 200}.0.0/28", who="admin")
    known = (network["id"], subnet["id"], cloud.private, {"ip_address": "10.0.0.5"}, [{"subnet_id": subnet["id"]}])
    for method in ("POST", "PUT"):
        body = data.draw(objects(FITTING, *known))
        body.setdefault("network_id", network["id"]) if "network_id" in kind.attributes and method == "POST" else None
        if kind.member == "subnet" and method == "POST":
            body.setdefault("ip_version", 4)
        path = f"/{kind.collection}"
        if method == "PUT":
            made = {"network": network["id"], "subnet": subnet["id"]}.get(kind.member, network["id"])
            path += f"/{made}"
        answer = await cloud.call(method, path, {kind.member: body}, who="admin")
        assert fine(answer.status_code), answer.text
    await cloud.call("DELETE", f"/networks/{network['id']}", who="admin")


@RUNS
@given(kind=KIND, body=values())
async def test_bodies(cloud: Cloud, kind: Any, body: Any) -> None:
    for sent in (body, {kind.member: body}, {f"{kind.member}s": body}, {f"{kind.member}s": [body]}):
        answer = await cloud.call("POST", f"/{kind.collection}", sent if sent is not None else "null")
        assert fine(answer.status_code), answer.text


@RUNS
@given(kind=KIND, query=queries([*NAMED, "limit", "marker", "sort_key", "sort_dir", "fields", "tags", "not-tags-any"]))
async def test_lists(cloud: Cloud, kind: Any, query: str) -> None:
    path = f"http://cloud.test/network/v2.0/{kind.collection}?{quote(query, safe='%&=:,')}"
    answer = await cloud.call("GET", path)
    assert fine(answer.status_code), answer.text


@RUNS
@given(
    method=st.sampled_from(["GET", "PUT", "POST", "DELETE", "PATCH"]),
    parts=st.lists(
        NAMES | st.sampled_from(["networks", "ports", "tags", "quotas", "extensions", "routers", "details"]), max_size=4
    ),
    body=st.binary(max_size=20) | values().map(repr).map(str.encode),
)
async def test_paths(cloud: Cloud, method: str, parts: list[str], body: bytes) -> None:
    path = "/".join(quote(part, safe="%") for part in parts)
    answer = await cloud.call(method, f"http://cloud.test/network/v2.0/{path}", data=body)
    assert fine(answer.status_code), answer.text
