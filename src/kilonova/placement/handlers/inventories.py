"""/resource_providers/{uuid}/inventories: how much there is of what."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

from kilonova.db.database import Tx
from kilonova.db.queries import host_inventory
from kilonova.db.queries import placement_api as sql
from kilonova.db.queries.host_inventory import Inventory
from kilonova.db.statement import Row
from kilonova.http.errors import BadRequest, Conflict, NotFound
from kilonova.http.message import Request, Response, empty
from kilonova.placement.handlers.context import Context, lock, tell
from kilonova.placement.wire import (
    CONCURRENT,
    IN_USE,
    Natural,
    Positive,
    ResourceClass,
    answer,
    body_as,
    no_query,
    stale,
)

_MOST = 2**31 - 1
Ratio = Annotated[float, Meta(ge=0.0, le=3.40282e38)]


class _Inventory(Struct, forbid_unknown_fields=True, kw_only=True):
    total: Positive
    reserved: Natural = 0
    min_unit: Positive = 1
    max_unit: Positive = _MOST
    step_size: Positive = 1
    allocation_ratio: Ratio = 1.0

    def stored(self, name: str, version: int, what: str) -> Inventory:
        """As stored; BadRequest that says it could not do `what`, when nothing could ever be allocated of it."""
        found = Inventory(
            (self.total, self.reserved, self.min_unit, self.max_unit, self.step_size, float(self.allocation_ratio))
        )
        if self.reserved > self.total or (self.reserved == self.total and version < 26):
            how = "greater than" if version >= 26 else "greater than or equal to"
            raise BadRequest(
                f"Unable to {what}: Invalid inventory for '{name}'. The reserved value is {how} total."
            )
        return found


class _New(_Inventory, forbid_unknown_fields=True, kw_only=True):
    resource_class: ResourceClass


class _One(_Inventory, forbid_unknown_fields=True, kw_only=True):
    resource_provider_generation: int


class AllInventories(Struct, forbid_unknown_fields=True):
    resource_provider_generation: int
    inventories: dict[ResourceClass, _Inventory]


def _shown(row: Row) -> dict[str, Any]:
    _, total, reserved, min_unit, max_unit, step_size, ratio, *_ = row
    return {
        "total": total, "reserved": reserved, "min_unit": min_unit, "max_unit": max_unit, "step_size": step_size,
        "allocation_ratio": ratio,
    }  # fmt: skip


def _listing(request: Request, generation: int, rows: list[Row], updated_at: int) -> Response:
    body = {"resource_provider_generation": generation, "inventories": {row[0]: _shown(row) for row in rows}}
    return answer(request, body, updated_at)


async def listing(request: Request, context: Context) -> Response:
    no_query(request)
    provider = await context.provider(request.params["uuid"])
    return _listing(
        request, provider[4], await context.db.fetch(sql.INVENTORIES, {"uuid": provider[0]}), provider[5]
    )


async def show(request: Request, context: Context) -> Response:
    no_query(request)
    provider = await context.provider(request.params["uuid"])
    name = request.params["resource_class"]
    for row in await context.db.fetch(sql.INVENTORIES, {"uuid": provider[0]}):
        if row[0] == name:
            return answer(request, {"resource_provider_generation": provider[4], **_shown(row)}, provider[5])
    raise NotFound(f"No inventory of class {name[:100]} for {provider[0]}")


async def replace(request: Request, context: Context) -> Response:
    """PUT all."""
    uuid = (await context.provider(request.params["uuid"]))[0]
    body = await body_as(request, AllInventories)
    try:
        await context.check_classes(set(body.inventories))
    except BadRequest as error:
        raise BadRequest(
            f"Unknown resource class in inventory for resource provider {uuid}: {error.message}"
        ) from None
    what = f"update inventory for resource provider {uuid}"
    wanted = {name: each.stored(name, request.version, what) for name, each in body.inventories.items()}
    now = context.now()

    async def work(tx: Tx) -> tuple[int, list[Row]]:
        generation = await lock(tx, uuid, body.resource_provider_generation, now)
        have = (await host_inventory.inventories_of(tx, (uuid,)))[uuid]
        for name in sorted(have.keys() - wanted.keys()):
            if not await host_inventory.delete_inventory(tx, uuid, name):
                raise Conflict(f"Inventory for '{name}' on resource provider '{uuid}' in use.", code=IN_USE)
        for name, inventory in sorted(wanted.items()):
            if have.get(name) != inventory:
                await host_inventory.put_inventory(tx, uuid, name, inventory, known=name in have)
        await tell(tx, uuid, now)
        return generation, await tx.fetch(sql.INVENTORIES, {"uuid": uuid})

    generation, rows = await context.write(work)
    return _listing(request, generation, rows, now)


async def create(request: Request, context: Context) -> Response:
    """POST one."""
    uuid = (await context.provider(request.params["uuid"]))[0]
    body = await body_as(request, _New)
    name = body.resource_class
    await context.check_classes({name})
    inventory = body.stored(name, request.version, f"create inventory for resource provider {uuid}")
    now = context.now()

    async def work(tx: Tx) -> int:
        generation = await lock(tx, uuid, None, now)
        if name in (await host_inventory.inventories_of(tx, (uuid,)))[uuid]:
            raise Conflict(f"Update conflict: there is an inventory of {name} already", code=CONCURRENT)
        await host_inventory.put_inventory(tx, uuid, name, inventory, known=False)
        await tell(tx, uuid, now)
        return generation

    generation = await context.write(work)
    location = f"{request.host_url}{request.mount}/resource_providers/{uuid}/inventories/{name}"
    shown = {"resource_provider_generation": generation, **_shown((name, *inventory))}
    return answer(request, shown, now, 201, location=location)


async def update(request: Request, context: Context) -> Response:
    """PUT one."""
    uuid = (await context.provider(request.params["uuid"]))[0]
    name = request.params["resource_class"]
    body = await body_as(request, _One)
    await context.check_classes({name})
    inventory = body.stored(name, request.version, f"update inventory for resource provider {uuid}")
    now = context.now()

    async def work(tx: Tx) -> int:
        row = await sql.provider(tx, uuid)
        if row is not None and row[4] != body.resource_provider_generation:
            raise stale()
        if name not in (await host_inventory.inventories_of(tx, (uuid,)))[uuid]:
            raise BadRequest(f"No inventory record with resource class for resource provider {uuid} of class {name}")
        generation = await lock(tx, uuid, body.resource_provider_generation, now)
        await host_inventory.put_inventory(tx, uuid, name, inventory, known=True)
        await tell(tx, uuid, now)
        return generation

    generation = await context.write(work)
    return answer(request, {"resource_provider_generation": generation, **_shown((name, *inventory))}, now)


async def delete(request: Request, context: Context) -> Response:
    """DELETE one."""
    uuid = (await context.provider(request.params["uuid"]))[0]
    name = request.params["resource_class"]
    now = context.now()

    async def work(tx: Tx) -> None:
        await lock(tx, uuid, None, now)
        if name not in (await host_inventory.inventories_of(tx, (uuid,)))[uuid]:
            raise NotFound(f"No inventory of class {name[:100]} found for delete")
        if not await host_inventory.delete_inventory(tx, uuid, name):
            raise Conflict(
                f"Unable to delete inventory of class: Inventory for '{name}' on resource provider '{uuid}' in use.",
                code=CONCURRENT,
            )
        await tell(tx, uuid, now)

    await context.write(work)
    return empty()


async def delete_all(request: Request, context: Context) -> Response:
    uuid = (await context.provider(request.params["uuid"]))[0]
    now = context.now()

    async def work(tx: Tx) -> None:
        await lock(tx, uuid, None, now)
        names = sorted((await host_inventory.inventories_of(tx, (uuid,)))[uuid], reverse=True)
        kept = [name for name in names if not await host_inventory.delete_inventory(tx, uuid, name)]
        if kept:
            raise Conflict(
                f"Unable to delete inventory: Inventory for '{', '.join(kept)}' on resource provider '{uuid}' in use.",
                code=IN_USE,
            )
        await tell(tx, uuid, now)

    await context.write(work)
    return empty()
