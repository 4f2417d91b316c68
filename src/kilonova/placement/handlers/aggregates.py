"""/resource_providers/{uuid}/aggregates: sets of providers, named by uuids that mean nothing here."""

from __future__ import annotations

from msgspec import Struct

from kilonova.db.database import Tx
from kilonova.db.queries import placement_api as sql
from kilonova.http.errors import BadRequest
from kilonova.http.message import Request, Response
from kilonova.placement.handlers.context import Context, lock, tell
from kilonova.placement.wire import Uuid, answer, body_as, canonical, no_query


class _Aggregates(Struct, forbid_unknown_fields=True):
    aggregates: list[Uuid]
    resource_provider_generation: int


def _shown(request: Request, uuids: list[str], generation: int, updated_at: int) -> Response:
    body: dict[str, object] = {"aggregates": uuids}
    if request.version >= 19:
        body["resource_provider_generation"] = generation
    return answer(request, body, updated_at)


async def listing(request: Request, context: Context) -> Response:
    no_query(request)
    provider = await context.provider(request.params["uuid"])
    rows = await context.db.fetch(sql.AGGREGATES_OF, {"uuid": provider[0]})
    return _shown(request, [row[0] for row in rows], provider[4], provider[5])


async def replace(request: Request, context: Context) -> Response:
    provider = await context.provider(request.params["uuid"])
    uuid, now = provider[0], context.now()
    generation: int | None = None
    if request.version >= 19:
        body = await body_as(request, _Aggregates)
        given, generation = body.aggregates, body.resource_provider_generation
    else:
        given = await body_as(request, list[Uuid])
    wanted = [canonical(each) for each in given]
    if len(set(wanted)) != len(wanted):
        raise BadRequest("JSON does not validate: aggregates has non-unique elements")

    async def work(tx: Tx) -> int:
        raised = provider[4]
        if generation is not None:
            raised = await lock(tx, uuid, generation, now)
        await tx.execute(sql.DELETE_AGGREGATES, {"uuid": uuid})
        await tx.execute_many(sql.INSERT_AGGREGATE, [{"provider": uuid, "aggregate": each} for each in wanted])
        if generation is not None:
            await tell(tx, uuid, now)
        return int(raised)

    return _shown(request, wanted, await context.write(work), now)
