"""/flavors/{id}/os-extra_specs."""

from __future__ import annotations

from typing import Any

from kilonova.api.flavors.finding import visible_flavor
from kilonova.api.microversion.fields import Body, In
from kilonova.api.operation import Call, operation
from kilonova.db.database import Tx
from kilonova.db.queries import flavors as rows
from kilonova.http.errors import BadRequest, NotFound

_RULE = "os_compute_api:os-flavor-extra-specs:"
_PATH = "/flavors/{flavor_id}/os-extra_specs"
_VALUE = {"type": ["string", "number"], "maxLength": 255, "pattern": r"^[^\p{C}]*$", "minimum": -1e15, "maximum": 1e15}
_KEY = "^[a-zA-Z0-9-_:. ]{1,255}$"
_SPECS = {"type": "object", "patternProperties": {_KEY: _VALUE}, "additionalProperties": False}
_CREATE = Body([("extra_specs", In(_SPECS, 1, 104, True))])
_UPDATE = Body([], rest={_KEY: _VALUE}, limits={"minProperties": 1, "maxProperties": 1})


@operation("GET", _PATH, _RULE + "index")
async def index(call: Call) -> Any:
    found = await visible_flavor(call, call.params["flavor_id"])
    return {"extra_specs": found.extra_specs}


@operation("GET", _PATH + "/{key}", _RULE + "show")
async def show(call: Call) -> Any:
    found = await visible_flavor(call, call.params["flavor_id"])
    key = call.params["key"]
    if key not in found.extra_specs:
        raise _missing(call)
    return {key: found.extra_specs[key]}


def _missing(call: Call) -> NotFound:
    key, flavor_id = call.params["key"][:255], call.params["flavor_id"][:255]
    return NotFound(f"Flavor {flavor_id} has no extra specs with key {key}.")


async def _change(tx: Tx, args: tuple[str, dict[str, str], tuple[str, ...], int]) -> dict[str, str]:
    return await rows.change_specs(tx, *args)


async def _put(call: Call, specs: dict[str, Any]) -> None:
    flavor_id = call.params["flavor_id"]
    await visible_flavor(call, flavor_id)
    put = {key: value if isinstance(value, str) else f"{value:g}" for key, value in specs.items()}
    await call.services.databases.global_.write(_change, (flavor_id, put, (), call.services.clock()))


@operation("POST", _PATH, _RULE + "create", body=_CREATE)
async def create(call: Call) -> Any:
    specs = call.body["extra_specs"]
    await _put(call, specs)
    return {"extra_specs": specs}


@operation("PUT", _PATH + "/{key}", _RULE + "update", body=_UPDATE)
async def update(call: Call) -> Any:
    if call.params["key"] not in call.body:
        raise BadRequest("Request body and URI mismatch")
    await _put(call, call.body)
    return call.body


@operation("DELETE", _PATH + "/{key}", _RULE + "delete")
async def delete(call: Call) -> None:
    flavor_id, key = call.params["flavor_id"], call.params["key"]
    await visible_flavor(call, flavor_id)
    try:
        await call.services.databases.global_.write(_change, (flavor_id, {}, (key,), call.services.clock()))
    except KeyError:
        raise _missing(call) from None


OPERATIONS = (index, show, create, update, delete)
