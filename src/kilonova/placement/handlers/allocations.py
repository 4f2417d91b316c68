"""/allocations and /resource_providers/{uuid}/allocations: who holds how much of what."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

from kilonova.db.database import Tx
from kilonova.db.queries import placement_api as sql
from kilonova.http.errors import BadRequest, NotFound
from kilonova.http.message import Request, Response, empty
from kilonova.placement import claims
from kilonova.placement.allocate import Wanted, allocate
from kilonova.placement.handlers.context import Context
from kilonova.placement.wire import Resources, Uuid, answer, body_as, canonical, check, no_query

Text = Annotated[str, Meta(min_length=1, max_length=255)]
Kind = Annotated[str, Meta(pattern="^[A-Z0-9_]+$", min_length=1, max_length=191)]
_NOBODY = "00000000-0000-0000-0000-000000000000"
"""Project and user of consumers made below 1.8."""


class _ProviderRef(Struct, forbid_unknown_fields=True):
    uuid: Uuid


class _Row(Struct, forbid_unknown_fields=True):
    resource_provider: _ProviderRef
    resources: Resources


class _Amounts(Struct, forbid_unknown_fields=True):
    resources: Resources
    generation: int | UnsetType = UNSET
    """What GET shows; taken so that an answer can be sent back, not compared."""


class _Put0(Struct, forbid_unknown_fields=True):
    allocations: Annotated[list[_Row], Meta(min_length=1)]


class _Put8(_Put0, forbid_unknown_fields=True):
    project_id: Text
    user_id: Text


class _Put12(Struct, forbid_unknown_fields=True, kw_only=True):
    allocations: Annotated[dict[Uuid, _Amounts], Meta(min_length=1)]
    project_id: Text
    user_id: Text


class Put28(Struct, forbid_unknown_fields=True, kw_only=True):
    allocations: dict[Uuid, _Amounts]
    project_id: Text
    user_id: Text
    consumer_generation: int | None


class Put34(Put28, forbid_unknown_fields=True, kw_only=True):
    mappings: Annotated[dict[str, Annotated[list[Uuid], Meta(min_length=1)]], Meta(min_length=1)] | UnsetType = UNSET


class Put38(Put34, forbid_unknown_fields=True, kw_only=True):
    consumer_type: Kind


class _Post13(Struct, forbid_unknown_fields=True, kw_only=True):
    allocations: dict[Uuid, _Amounts]
    project_id: Text
    user_id: Text


_PUT: tuple[tuple[int, Any], ...] = ((38, Put38), (34, Put34), (28, Put28), (12, _Put12), (8, _Put8), (0, _Put0))
_POST: tuple[tuple[int, Any], ...] = ((38, Put38), (34, Put34), (28, Put28), (13, _Post13))


def by_version(versions: tuple[tuple[int, Any], ...], version: int) -> Any:
    return next(kind for since, kind in versions if version >= since)


async def wanted_from(context: Context, consumer: str, body: Any) -> Wanted:
    """What a body of any version asks for. Raises BadRequest for unknown providers and classes."""
    if isinstance(body, _Put0):
        amounts: dict[str, dict[str, int]] = {}
        for row in body.allocations:
            amounts.setdefault(canonical(row.resource_provider.uuid), {}).update(row.resources)
    else:
        amounts = {canonical(uuid): dict(each.resources) for uuid, each in body.allocations.items()}
    for uuid in sorted(amounts):
        if await context.db.fetch_one(sql.PROVIDER, {"uuid": uuid}) is None:
            raise BadRequest(f"Allocation for resource provider '{uuid}' that does not exist.")
    try:
        await context.check_classes({name for classes in amounts.values() for name in classes})
    except BadRequest as error:
        raise BadRequest(f"Unable to allocate inventory for consumer {consumer}: {error.message}") from None
    return Wanted(
        consumer=consumer,
        allocations=amounts,
        project_id=getattr(body, "project_id", _NOBODY),
        user_id=getattr(body, "user_id", _NOBODY),
        generation=getattr(body, "consumer_generation", UNSET),
        type=getattr(body, "consumer_type", None),
    )


async def show(request: Request, context: Context) -> Response:
    no_query(request)
    consumer = request.params["consumer_uuid"].lower()
    rows = await context.db.fetch(sql.CONSUMER_ALLOCATIONS, {"uuid": consumer})
    found: dict[str, Any] = {}
    for provider, generation, name, amount, *_ in rows:
        found.setdefault(provider, {"generation": generation, "resources": {}})["resources"][name] = amount
    body: dict[str, Any] = {"allocations": found}
    if rows:
        *_, generation, project_id, user_id, kind, updated_at = rows[0]
        if request.version >= 12:
            body |= {"project_id": project_id, "user_id": user_id}
        if request.version >= 28:
            body["consumer_generation"] = generation
        if request.version >= 38:
            body["consumer_type"] = kind or "unknown"
        return answer(request, body, updated_at)
    return answer(request, body)


async def of_provider(request: Request, context: Context) -> Response:
    no_query(request)
    provider = await context.provider(request.params["uuid"])
    found: dict[str, Any] = {}
    for consumer, name, amount, generation in await context.db.fetch(sql.PROVIDER_ALLOCATIONS, {"uuid": provider[0]}):
        each = found.setdefault(consumer, {"resources": {}})
        each["resources"][name] = amount
        if request.version >= 28:
            each["consumer_generation"] = generation
    return answer(request, {"allocations": found, "resource_provider_generation": provider[4]}, provider[5])


async def replace(request: Request, context: Context) -> Response:
    """PUT one consumer's."""
    body = await body_as(request, by_version(_PUT, request.version))
    try:
        consumer = canonical(check(request.params["consumer_uuid"], Uuid))
    except BadRequest:
        raise BadRequest(f"Malformed consumer_uuid: {request.params['consumer_uuid'][:100]}") from None
    wanted = await wanted_from(context, consumer, body)
    now = context.now()
    await context.write(lambda tx: allocate(tx, (wanted,), now))
    return empty()


async def replace_many(request: Request, context: Context) -> Response:
    """POST those of several."""
    kind: Any = Annotated[dict[Uuid, by_version(_POST, request.version)], Meta(min_length=1)]  # type: ignore[misc]  # by version
    bodies: dict[str, Any] = await body_as(request, kind)
    wanted = [await wanted_from(context, canonical(uuid), body) for uuid, body in bodies.items()]
    now = context.now()
    await context.write(lambda tx: allocate(tx, wanted, now))
    return empty()


async def delete(request: Request, context: Context) -> Response:
    consumer = request.params["consumer_uuid"].lower()
    now = context.now()

    async def work(tx: Tx) -> tuple[str, ...]:
        return await claims.release(tx, consumer, now)

    if not await context.write(work):
        raise NotFound(f"No allocations for consumer '{consumer[:100]}'")
    return empty()
