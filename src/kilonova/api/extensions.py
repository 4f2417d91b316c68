"""/extensions: a list frozen in 2014, kept for clients that look features up by alias."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from kilonova.api.operation import Call, operation
from kilonova.http.errors import NotFound

_RULE = "os_compute_api:extensions"


@cache
def _known() -> dict[str, dict[str, Any]]:
    pairs = msgspec.json.decode(Path(__file__).with_name("extensions.json").read_bytes(), type=list[tuple[str, str]])
    known = {}
    for alias, name in pairs:
        known[alias] = {
            "alias": alias, "name": name, "description": f"{name}.", "links": [], "updated": "2014-12-03T00:00:00Z",
            "namespace": "http://docs.openstack.org/compute/ext/fake_xml",
        }  # fmt: skip
    return known


@operation("GET", "/extensions", _RULE)
async def index(call: Call) -> Any:
    return {"extensions": list(_known().values())}


@operation("GET", "/extensions/{alias}", _RULE)
async def show(call: Call) -> Any:
    found = _known().get(call.params["alias"])
    if found is None:
        raise NotFound("The resource could not be found.")
    return {"extension": found}


OPERATIONS = (index, show)
