"""Flavors as a caller may use them."""

from __future__ import annotations

from kilonova.api.operation import Call
from kilonova.db.queries.flavors import GET, MAY_USE, FlavorRow, flavor
from kilonova.http.errors import BadRequest, NotFound


async def visible_flavor(call: Call, flavor_id: str) -> FlavorRow:
    """A flavor the caller may see. Raises NotFound."""
    found = await _find(call, flavor_id)
    if found is None:
        raise NotFound(f"Flavor {flavor_id[:255]} could not be found.")
    return found


async def usable_flavor(call: Call, flavor_id: str) -> FlavorRow:
    """A flavor to boot from. Raises BadRequest, since it comes from a body."""
    found = await _find(call, flavor_id)
    if found is None or found.disabled:
        raise BadRequest(f"Flavor {flavor_id[:255]} could not be found.")
    return found


async def _find(call: Call, flavor_id: str) -> FlavorRow | None:
    whole = call.services.databases.global_
    row = await whole.fetch_one(GET, {"flavor_id": flavor_id})
    if row is None:
        return None
    found = flavor(row)
    if not found.is_public and not call.policy.is_admin(call.creds):
        allowed = {each[0] for each in await whole.fetch(MAY_USE, {"project_id": call.project_id})}
        if flavor_id not in allowed:
            return None
    return found
