"""POST /reshaper: inventories and allocations moved together, in one transaction.

Inventories first take in what is new, then allocations move, then inventories lose what went: at each
moment inside the transaction every allocation has its inventory.
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, defstruct

from kilonova.db.database import Tx
from kilonova.db.queries import host_inventory
from kilonova.db.queries import placement as claims_sql
from kilonova.db.queries import placement_api as sql
from kilonova.http.errors import BadRequest, Conflict
from kilonova.http.message import Request, Response, empty
from kilonova.placement.allocate import allocate
from kilonova.placement.handlers.allocations import Put28, Put34, Put38, by_version, wanted_from
from kilonova.placement.handlers.context import Context, lock, tell
from kilonova.placement.handlers.inventories import AllInventories
from kilonova.placement.wire import IN_USE, PROVIDER_NOT_FOUND, Uuid, body_as, canonical, stale

_POST: tuple[tuple[int, Any], ...] = ((38, Put38), (34, Put34), (28, Put28))


def _body(version: int) -> Any:
    fields: list[tuple[str, Any]] = [
        ("inventories", Annotated[dict[Uuid, AllInventories], Meta(min_length=1)]),
        ("allocations", dict[Uuid, by_version(_POST, version)]),  # type: ignore[misc]  # chosen by version
    ]
    return defstruct("Reshape", fields, forbid_unknown_fields=True)


_BODIES = {since: _body(since) for since, _ in _POST}


async def reshape(request: Request, context: Context) -> Response:
    body: Any = await body_as(request, next(_BODIES[since] for since, _ in _POST if request.version >= since))
    inventories: dict[str, AllInventories] = {canonical(uuid): each for uuid, each in body.inventories.items()}
    for uuid in inventories:
        if await context.db.fetch_one(sql.PROVIDER, {"uuid": uuid}) is None:
            raise BadRequest(f"Resource provider {uuid} in inventories does not exist.", code=PROVIDER_NOT_FOUND)
    await context.check_classes({name for each in inventories.values() for name in each.inventories})
    wanted = [
        await wanted_from(context, canonical(consumer), each) for consumer, each in body.allocations.items()
    ]
    now = context.now()

    async def work(tx: Tx) -> None:
        have = await host_inventory.inventories_of(tx, list(inventories))
        for uuid, each in sorted(inventories.items()):
            row = await sql.provider(tx, uuid)
            given, actual = each.resource_provider_generation, row[4] if row else None
            if given != actual:
                raise stale(f"resource provider generation conflict: {uuid}, actual: {actual}, given: {given}")
        for uuid, each in sorted(inventories.items()):
            if each.inventories:
                await lock(tx, uuid, each.resource_provider_generation, now)
            else:
                await claims_sql.lock_provider(tx, uuid, 0, now, raised=0)
            for name, inventory in sorted(each.inventories.items()):
                stored = inventory.stored(name, request.version, f"update inventory for resource provider {uuid}")
                await host_inventory.put_inventory(tx, uuid, name, stored, known=name in have[uuid])
        if wanted:
            await allocate(tx, wanted, now)
        for uuid, each in sorted(inventories.items()):
            await lock(tx, uuid, None, now)
            for name in sorted(have[uuid].keys() - each.inventories.keys()):
                if not await host_inventory.delete_inventory(tx, uuid, name):
                    raise Conflict(f"Inventory for '{name}' on resource provider '{uuid}' in use.", code=IN_USE)
            await tell(tx, uuid, now)

    await context.write(work)
    return empty()
