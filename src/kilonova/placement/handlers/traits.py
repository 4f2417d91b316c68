"""/traits and /resource_providers/{uuid}/traits: what a provider is like."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from kilonova.db.database import Tx
from kilonova.db.queries import host_inventory
from kilonova.db.queries import placement_api as sql
from kilonova.http.errors import BadRequest, Conflict, NotFound
from kilonova.http.message import Request, Response, empty
from kilonova.placement import standard
from kilonova.placement.announce import announce_host
from kilonova.placement.handlers.context import Context, lock, tell
from kilonova.placement.wire import answer, body_as, known_query, no_query, stale, version_headers

TraitName = Annotated[str, Meta(pattern="^[A-Z0-9_]+$", min_length=1, max_length=191)]


class _Traits(Struct, forbid_unknown_fields=True):
    resource_provider_generation: int
    traits: list[TraitName]


async def listing(request: Request, context: Context) -> Response:
    query = known_query(request, ("name", "associated"), ("name", "associated"))
    names = set(standard.traits()) | {row[0] for row in await context.db.fetch(sql.CUSTOM_TRAITS, {})}
    if "name" in query:
        kind, colon, text = query["name"][0].partition(":")
        if kind == "in" and colon:
            names &= set(text.split(","))
        elif kind == "startswith" and colon:
            names = {name for name in names if name.startswith(text)}
        else:
            raise BadRequest(
                "Badly formatted name parameter. Expected name query string parameter in form: "
                f'?name=[in|startswith]:[name1,name2|prefix]. Got: "{query["name"][0][:100]}"'
            )
    if "associated" in query:
        wanted = query["associated"][0].lower()
        if wanted not in ("true", "false"):
            raise BadRequest('The query parameter "associated" only accepts "true" or "false"')
        used = {row[0] for row in await context.db.scan(sql.ASSOCIATED_TRAITS, {}, list)}
        names = names & used if wanted == "true" else names - used
    return answer(request, {"traits": sorted(names)})


async def show(request: Request, context: Context) -> Response:
    no_query(request)
    name = request.params["name"]
    if name not in standard.traits() and await context.db.fetch_one(sql.CUSTOM_TRAIT, {"name": name}) is None:
        raise NotFound(f"No such trait {name[:255]}.")
    response = answer(request, None)
    return empty(headers={k: v for k, v in response.headers.items() if k != "content-type"})


async def ensure(request: Request, context: Context) -> Response:
    name = request.params["name"]
    if not standard.CUSTOM.fullmatch(name) or len(name) > standard.LONGEST:
        raise BadRequest(
            "The trait is invalid. A valid trait must be no longer than 255 characters, start with the prefix "
            '"CUSTOM_" and use following characters: "A"-"Z", "0"-"9" and "_"'
        )
    now = context.now()

    async def work(tx: Tx) -> bool:
        return await tx.insert_if_absent(sql.INSERT_TRAIT, {"name": name, "now": now})

    new = await context.write(work)
    response = answer(request, None)
    headers = {k: v for k, v in response.headers.items() if k != "content-type"}
    headers["location"] = f"{request.host_url}{request.mount}/traits/{name}"
    return Response(201 if new else 204, b"", headers | version_headers(request.version))


async def delete(request: Request, context: Context) -> Response:
    name = request.params["name"]
    if name in standard.traits():
        raise BadRequest(f"Cannot delete standard trait {name}.")

    async def work(tx: Tx) -> None:
        if await tx.fetch_one(sql.CUSTOM_TRAIT, {"name": name}) is None:
            raise NotFound(f"No such trait {name[:255]}.")
        if not await tx.execute(sql.DELETE_TRAIT, {"name": name}):
            raise Conflict(f"The trait {name} is in use by a resource provider.")

    await context.write(work)
    return empty()


async def of_provider(request: Request, context: Context) -> Response:
    no_query(request)
    provider = await context.provider(request.params["uuid"])
    names = [row[0] for row in await context.db.fetch(sql.TRAITS_OF, {"uuid": provider[0]})]
    return answer(request, {"traits": names, "resource_provider_generation": provider[4]}, provider[5])


async def replace(request: Request, context: Context) -> Response:
    uuid = (await context.provider(request.params["uuid"]))[0]
    body = await body_as(request, _Traits)
    if len(set(body.traits)) != len(body.traits):
        raise BadRequest("JSON does not validate: traits has non-unique elements")
    await context.check_traits(set(body.traits))
    now = context.now()
    known, wanted = body.resource_provider_generation, set(body.traits)
    generation = await context.write(lambda tx: _set(tx, uuid, known, wanted, now))
    return answer(request, {"traits": sorted(body.traits), "resource_provider_generation": generation}, now)


async def clear(request: Request, context: Context) -> Response:
    uuid = (await context.provider(request.params["uuid"]))[0]
    now = context.now()
    await context.write(lambda tx: _set(tx, uuid, None, set(), now))
    return empty()


async def _set(tx: Tx, uuid: str, generation: int | None, wanted: set[str], now: int) -> int:
    try:
        raised = await lock(tx, uuid, generation, now)
    except Conflict:
        raise stale(
            "Resource provider's generation already changed. Please update the generation and try again."
        ) from None
    have = set(await host_inventory.traits_of(tx, uuid))
    if have != wanted:
        await host_inventory.change_traits(tx, uuid, wanted - have, have - wanted, now)
    await tell(tx, uuid, now)
    await announce_host(tx, uuid, raised, now)
    return raised
