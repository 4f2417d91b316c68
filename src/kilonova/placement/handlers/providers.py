"""/resource_providers: what gives resources, alone or in trees."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import uuid4

from msgspec import UNSET, Meta, Struct, UnsetType

from kilonova.db.database import Tx
from kilonova.db.queries import host_inventory
from kilonova.db.queries import placement as claims_sql
from kilonova.db.queries import placement_api as sql
from kilonova.db.statement import Row
from kilonova.http.errors import BadRequest, Conflict
from kilonova.http.message import Request, Response, empty
from kilonova.model.placement import GONE
from kilonova.placement.announce import announce_host
from kilonova.placement.handlers.context import Context
from kilonova.placement.query import provider_filter
from kilonova.placement.wire import (
    DUPLICATE_NAME,
    PROVIDER_IN_USE,
    PROVIDER_IS_PARENT,
    Uuid,
    answer,
    body_as,
    canonical,
    known_query,
    no_provider,
    no_query,
)

Name = Annotated[str, Meta(min_length=1, max_length=191)]


class _New(Struct, forbid_unknown_fields=True):
    name: Name
    uuid: Uuid | UnsetType = UNSET


class _NewNested(_New, forbid_unknown_fields=True):
    parent_provider_uuid: Uuid | None = None


class _Change(Struct, forbid_unknown_fields=True):
    name: Name


class _ChangeNested(_Change, forbid_unknown_fields=True):
    parent_provider_uuid: Uuid | UnsetType | None = UNSET


def shown(request: Request, row: Row) -> dict[str, Any]:
    """A provider as the request's version shows it."""
    uuid, name, parent, root, generation, *_ = row
    base = f"{request.mount}/resource_providers/{uuid}"
    links = ["self", "inventories", "usages"]
    for since, rel in ((1, "aggregates"), (6, "traits"), (11, "allocations")):
        if request.version >= since:
            links.append(rel)
    body: dict[str, Any] = {
        "uuid": uuid,
        "name": name,
        "generation": generation,
        "links": [{"rel": rel, "href": base if rel == "self" else f"{base}/{rel}"} for rel in links],
    }
    if request.version >= 14:
        body |= {"parent_provider_uuid": parent, "root_provider_uuid": root}
    return body


async def listing(request: Request, context: Context) -> Response:
    names = ["name", "uuid"]
    for since, name in ((3, "member_of"), (4, "resources"), (14, "in_tree"), (18, "required")):
        if request.version >= since:
            names.append(name)
    query = known_query(request, names, ("name", "uuid", "in_tree", "resources"))
    wanted = await provider_filter(context, query, request.version, {"member_of": 24, "traits_not": 22})
    rows = await context.db.scan(*wanted.statement(), list)
    newest = max((row[5] for row in rows), default=None)
    return answer(request, {"resource_providers": [shown(request, row) for row in rows]}, newest)


async def show(request: Request, context: Context) -> Response:
    no_query(request)
    row = await context.provider(request.params["uuid"])
    return answer(request, shown(request, row), row[5])


async def create(request: Request, context: Context) -> Response:
    body = await body_as(request, _NewNested if request.version >= 14 else _New)
    uuid = canonical(body.uuid) if body.uuid is not UNSET else str(uuid4())
    parent = body.parent_provider_uuid if isinstance(body, _NewNested) else None
    now = context.now()

    async def work(tx: Tx) -> Row:
        root = uuid
        if parent is not None:
            row = await sql.provider(tx, canonical(parent))
            if canonical(parent) == uuid:
                raise BadRequest(
                    f'Unable to create resource provider "{body.name}", {uuid}: '
                    "parent provider UUID cannot be same as UUID."
                )
            if row is None:
                raise BadRequest("parent provider UUID does not exist.")
            root = row[3]
        above = canonical(parent) if parent is not None else None
        if not await host_inventory.insert_provider(tx, uuid, body.name, now, above, root):
            what = f"name: {body.name}" if await sql.provider(tx, uuid) is None else f"uuid: {uuid}"
            raise Conflict(f"Conflicting resource provider {what} already exists.", code=DUPLICATE_NAME)
        return uuid, body.name, above, root, 0, now

    row = await context.write(work)
    location = f"{request.host_url}{request.mount}/resource_providers/{uuid}"
    if request.version >= 20:
        return answer(request, shown(request, row), row[5], location=location)
    return Response(201, b"", {"location": location})


async def update(request: Request, context: Context) -> Response:
    uuid = canonical((await context.provider(request.params["uuid"]))[0])
    body = await body_as(request, _ChangeNested if request.version >= 14 else _Change)
    now = context.now()

    async def work(tx: Tx) -> Row:
        # Concurrent moves of one tree wait for each other here.
        if not await claims_sql.lock_provider(tx, uuid, 0, now):
            raise no_provider(uuid)
        await claims_sql.unlock_provider(tx, uuid, 0)
        row = await sql.provider(tx, uuid)
        assert row is not None
        other = await tx.fetch_one(sql.NAMED, {"name": body.name})
        if other is not None and other[0] != uuid:
            raise Conflict(f"Conflicting resource provider name: {body.name} already exists.", code=DUPLICATE_NAME)
        await tx.execute(sql.RENAME, {"uuid": uuid, "name": body.name, "now": now})
        if isinstance(body, _ChangeNested) and body.parent_provider_uuid is not UNSET:
            parent = body.parent_provider_uuid
            await _move(tx, row, canonical(parent) if parent else None, free=request.version >= 37)
        changed = await sql.provider(tx, uuid)
        assert changed is not None
        return changed

    row = await context.write(work)
    return answer(request, shown(request, row), row[5])


async def _move(tx: Tx, row: Row, parent: str | None, *, free: bool) -> None:
    """Put a provider (with all below it) under `parent`, or on its own; `free`: also when it has a parent already."""
    uuid, _, before, root, *_ = row
    if parent == before:
        return
    if before is not None and not free:
        raise BadRequest("re-parenting a provider is not currently allowed." if parent else
                         "un-parenting a provider is not currently allowed.")  # fmt: skip
    below = _below(await tx.fetch(sql.TREE, {"root": root}), uuid)
    target = uuid
    if parent is not None:
        above = await sql.provider(tx, parent)
        if above is None:
            raise BadRequest("parent provider UUID does not exist.")
        if parent in below:
            raise BadRequest("creating loop in the provider tree is not allowed.")
        target = above[3]
    await tx.execute(sql.SET_PARENT, {"uuid": uuid, "parent": parent})
    await tx.execute_many(sql.SET_ROOT, [{"uuid": each, "root": target} for each in sorted(below)])


def _below(rows: list[Row], uuid: str) -> set[str]:
    """`uuid` and all providers under it, from the (uuid, parent) rows of its tree."""
    children: dict[str | None, list[str]] = {}
    for each, parent in rows:
        children.setdefault(parent, []).append(each)
    found, todo = set[str](), [uuid]
    while todo:
        each = todo.pop()
        if each not in found:
            found.add(each)
            todo += children.get(each, ())
    return found


async def delete(request: Request, context: Context) -> Response:
    uuid = request.params["uuid"].lower()
    now = context.now()

    async def work(tx: Tx) -> None:
        if not await claims_sql.lock_provider(tx, uuid, 0, now):
            raise no_provider(uuid, " for delete")
        if await tx.fetch_one(sql.CHILD, {"uuid": uuid}) is not None:
            raise Conflict(
                f"Unable to delete parent resource provider {uuid}: It has child resource providers.",
                code=PROVIDER_IS_PARENT,
            )
        if not await tx.execute(sql.DELETE_PROVIDER, {"uuid": uuid}):
            raise Conflict(
                f"Unable to delete resource provider {uuid}: Resource provider has allocations.", code=PROVIDER_IN_USE
            )
        for statement in (sql.DELETE_INVENTORIES, sql.DELETE_TRAITS, sql.DELETE_AGGREGATES):
            await tx.execute(statement, {"uuid": uuid})
        await announce_host(tx, uuid, GONE, now)

    await context.write(work)
    return empty()
