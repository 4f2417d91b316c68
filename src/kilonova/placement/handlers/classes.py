"""/resource_classes: what can be had."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct

from kilonova.db.database import Tx
from kilonova.db.queries import placement_api as sql
from kilonova.http.errors import BadRequest, Conflict, NotFound
from kilonova.http.message import Request, Response, empty
from kilonova.placement import standard
from kilonova.placement.handlers.context import Context
from kilonova.placement.invalid import reason
from kilonova.placement.wire import answer, body_as, no_query

CustomName = Annotated[str, Meta(pattern=f"^{standard.CUSTOM.pattern}$", max_length=standard.LONGEST)]


class _Named(Struct, forbid_unknown_fields=True):
    name: CustomName


def _shown(request: Request, name: str) -> dict[str, Any]:
    return {"name": name, "links": [{"rel": "self", "href": f"{request.mount}/resource_classes/{name}"}]}


def _location(request: Request, name: str) -> dict[str, str]:
    return {"location": f"{request.host_url}{request.mount}/resource_classes/{name}"}


async def listing(request: Request, context: Context) -> Response:
    no_query(request)
    names = await context.resource_classes()
    return answer(request, {"resource_classes": [_shown(request, name) for name in names]})


async def _find(context: Context, name: str) -> None:
    known = name in standard.resource_classes()
    if not known and await context.db.fetch_one(sql.CUSTOM_CLASS, {"name": name}) is None:
        raise NotFound(f"No such resource class {name[:255]}.")


async def show(request: Request, context: Context) -> Response:
    no_query(request)
    name = request.params["name"]
    await _find(context, name)
    return answer(request, _shown(request, name))


async def create(request: Request, context: Context) -> Response:
    name = (await body_as(request, _Named)).name
    if not await _insert(context, name):
        raise Conflict(f"Conflicting resource class already exists: {name}")
    return Response(201, b"", _location(request, name))


async def ensure_or_rename(request: Request, context: Context) -> Response:
    name = request.params["name"]
    if request.version >= 7:
        if await request.body():
            raise BadRequest("PUT of a resource class takes no body.")
        if not standard.CUSTOM.fullmatch(name) or len(name) > standard.LONGEST:
            raise BadRequest(reason({"name": name}, _Named, name[:255]))
        return Response(201 if await _insert(context, name) else 204, b"", _location(request, name))
    new = (await body_as(request, _Named)).name
    await _find(context, name)
    if name in standard.resource_classes():
        raise BadRequest(f"Cannot update standard resource class {name}")
    now = context.now()

    async def work(tx: Tx) -> None:
        if new != name and not await tx.insert_if_absent(sql.INSERT_CLASS, {"name": new, "now": now}):
            raise Conflict(f"Resource class already exists: {new}")
        for statement in (sql.RENAME_INVENTORIES, sql.RENAME_ALLOCATIONS):
            await tx.execute(statement, {"name": name, "new": new})
        if new != name:
            await tx.execute(sql.DELETE_CLASS, {"name": name})

    await context.write(work)
    return answer(request, _shown(request, new))


async def delete(request: Request, context: Context) -> Response:
    name = request.params["name"]
    await _find(context, name)
    if name in standard.resource_classes():
        raise BadRequest(f"Error in delete resource class: Cannot delete standard resource class {name}")

    async def work(tx: Tx) -> None:
        if not await tx.execute(sql.DELETE_CLASS, {"name": name}):
            raise Conflict(f"Error in delete resource class: Class is in use in inventory: {name}.")

    await context.write(work)
    return empty()


async def _insert(context: Context, name: str) -> bool:
    now = context.now()

    async def work(tx: Tx) -> bool:
        return await tx.insert_if_absent(sql.INSERT_CLASS, {"name": name, "now": now})

    return name not in standard.resource_classes() and await context.write(work)
