"""Making, describing and deleting flavors; who may use the private ones."""

from __future__ import annotations

from typing import Any

from kilonova.api.flavors.fields import FLAVOR, SHOW
from kilonova.api.flavors.finding import visible_flavor
from kilonova.api.flavors.reading import flags_of
from kilonova.api.microversion.fields import Body, In
from kilonova.api.microversion.schemas import as_bool, obj
from kilonova.api.operation import Call, Span, operation
from kilonova.db.database import Tx
from kilonova.db.queries import flavors as rows
from kilonova.db.queries.flavors import ACCESS, FlavorRow
from kilonova.http.errors import Conflict, NotFound

_MANAGE = "os_compute_api:os-flavor-manage:"
_ACCESS = "os_compute_api:os-flavor-access"


async def _insert(tx: Tx, new: FlavorRow) -> None:
    await rows.insert(tx, new)


@operation("POST", "/flavors", _MANAGE + "create", body=FLAVOR.body("create"))
async def create(call: Call) -> Any:
    body: dict[str, Any] = call.body["flavor"]
    asked = body.get("id")
    new = FlavorRow(
        flavor_id=call.services.new_id() if asked is None or asked == "auto" else _id(asked), name=body["name"].strip(),
        vcpus=int(body["vcpus"]), memory_mb=int(body["ram"]), root_gb=int(body["disk"]),
        ephemeral_gb=int(body.get("OS-FLV-EXT-DATA:ephemeral", 0)), swap_mb=int(body.get("swap", 0)),
        rxtx_factor=float(body.get("rxtx_factor", 1.0)),
        is_public=int(as_bool(body.get("os-flavor-access:is_public", True))), description=body.get("description"),
        created_at=call.services.clock(),
    )  # fmt: skip
    try:
        await call.services.databases.global_.write(_insert, new)
    except rows.NameTaken:
        raise Conflict(f"Flavor with name {new.name} or ID {new.flavor_id} already exists.") from None
    return {"flavor": SHOW.render(new, call.request.state["base"], call.version, flags_of(call))}


def _id(asked: Any) -> str:
    """Numbers are ids as well; 1.0 is 1."""
    if isinstance(asked, float) and asked.is_integer():
        return str(int(asked))
    return str(asked).strip()


async def _describe(tx: Tx, args: tuple[str, str | None, int]) -> bool:
    return await rows.describe(tx, *args)


@operation("PUT", "/flavors/{flavor_id}", _MANAGE + "update", since=55, body=FLAVOR.body("change"))
async def update(call: Call) -> Any:
    flavor_id = call.params["flavor_id"]
    found = await visible_flavor(call, flavor_id)
    found.description = call.body["flavor"]["description"]
    await call.services.databases.global_.write(_describe, (flavor_id, found.description, call.services.clock()))
    return {"flavor": SHOW.render(found, call.request.state["base"], call.version, flags_of(call))}


async def _delete(tx: Tx, flavor_id: str) -> bool:
    return await rows.delete(tx, flavor_id)


@operation("DELETE", "/flavors/{flavor_id}", _MANAGE + "delete", success=202)
async def delete(call: Call) -> None:
    flavor_id = call.params["flavor_id"]
    if not await call.services.databases.global_.write(_delete, flavor_id):
        raise NotFound(f"Flavor {flavor_id[:255]} could not be found.")


async def _accesses(call: Call, flavor_id: str) -> Any:
    found = await call.services.databases.global_.fetch(ACCESS, {"flavor_id": flavor_id})
    return {"flavor_access": [{"flavor_id": flavor_id, "tenant_id": row[0]} for row in found]}


@operation("GET", "/flavors/{flavor_id}/os-flavor-access", _ACCESS)
async def access(call: Call) -> Any:
    flavor_id = call.params["flavor_id"]
    found = await visible_flavor(call, flavor_id)
    if found.is_public:
        raise NotFound("Access list not available for public flavors.")
    return await _accesses(call, flavor_id)


_TENANT = obj(("tenant",), tenant={"type": "string", "minLength": 1, "maxLength": 36})


def _body(action: str) -> Body:
    return Body([(action, In(_TENANT, 1, 104, True))])


async def _grant(tx: Tx, args: tuple[str, str]) -> bool:
    return await rows.grant(tx, *args)


async def _revoke(tx: Tx, args: tuple[str, str]) -> bool:
    return await rows.revoke(tx, *args)


@operation(
    "POST", "/flavors/{flavor_id}/action", _ACCESS + ":add_tenant_access", action="addTenantAccess",
    body=_body("addTenantAccess"), facets={"public_refused": Span(7)},
)  # fmt: skip
async def add(call: Call) -> Any:
    flavor_id, tenant = call.params["flavor_id"], call.body["addTenantAccess"]["tenant"]
    found = await visible_flavor(call, flavor_id)
    if found.is_public and call.has("public_refused"):
        raise Conflict("Can not add access to a public flavor.")
    if not await call.services.databases.global_.write(_grant, (flavor_id, tenant)):
        raise Conflict(f"Flavor access already exists for flavor {flavor_id} and project {tenant} combination.")
    return await _accesses(call, flavor_id)


@operation(
    "POST", "/flavors/{flavor_id}/action", _ACCESS + ":remove_tenant_access", action="removeTenantAccess",
    body=_body("removeTenantAccess"),
)  # fmt: skip
async def remove(call: Call) -> Any:
    flavor_id, tenant = call.params["flavor_id"], call.body["removeTenantAccess"]["tenant"]
    await visible_flavor(call, flavor_id)
    if not await call.services.databases.global_.write(_revoke, (flavor_id, tenant)):
        raise NotFound(f"Flavor access not found for {flavor_id} / {tenant} combination.")
    return await _accesses(call, flavor_id)


OPERATIONS = (create, update, delete, access, add, remove)
