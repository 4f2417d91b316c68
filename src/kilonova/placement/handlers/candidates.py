"""GET /allocation_candidates: who could take this.

So far for one unsuffixed group on one provider, which is what hosts are; trees, sharing providers and
granular groups answer 501 and name what is missing.
"""

from __future__ import annotations

from typing import Any

from msgspec import Raw

from kilonova.db.queries import placement_api as sql
from kilonova.db.queries.placement_api import ProviderFilter
from kilonova.db.statement import Row
from kilonova.http.errors import BadRequest, NotImplementedHere
from kilonova.http.message import Request, Response
from kilonova.placement.handlers.context import Context
from kilonova.placement.query import provider_filter, required
from kilonova.placement.wire import BAD_VALUE, MISSING_VALUE, answer, known_query

_SINCE = ((16, "limit"), (17, "required"), (21, "member_of"), (31, "in_tree"), (35, "root_required"))
_GRANULAR = ("resources", "required", "member_of", "in_tree")
_PART = 1000


async def listing(request: Request, context: Context) -> Response:
    version = request.version
    if version >= 25:
        for name, _ in request.query:
            if name in ("group_policy", "same_subtree") or any(
                name.startswith(each) and name != each for each in _GRANULAR
            ):
                raise NotImplementedHere(f"Granular request groups ({name[:64]}) are not served yet.")
    names = ["resources", *(name for since, name in _SINCE if version >= since)]
    query = known_query(request, names, ("resources", "limit", "in_tree", "root_required"))
    if "resources" not in query:
        raise BadRequest("Invalid query string parameters: 'resources' is a required property", code=MISSING_VALUE)
    wanted = await provider_filter(
        context, {k: v for k, v in query.items() if k not in ("limit", "root_required")}, version,
        {"member_of": 24, "traits_not": 22},
    )  # fmt: skip
    if "root_required" in query:
        lists, wanted.root_forbidden = required(query["root_required"], "root_required", negative=True, any_of=False)
        wanted.root_required = [names[0] for names in lists]
        await context.check_traits({*wanted.root_required, *wanted.root_forbidden})
    if "limit" in query:
        text = query["limit"][0]
        if not text.isdigit() or int(text) < 1:
            raise BadRequest(
                f"Invalid query string parameters: limit {text[:20]!r} is no positive number", code=BAD_VALUE
            )
        wanted.limit = min(int(text), 2**31 - 1)
    return await _answer(request, context, wanted)


async def _answer(request: Request, context: Context, wanted: ProviderFilter) -> Response:
    version = request.version
    rows: list[Row] = await context.db.scan(*wanted.statement(), list)
    summaries: dict[str, Any] = {}
    for row in rows:
        summary = summaries[row[0]] = {"resources": {}}
        if version >= 17:
            summary["traits"] = Raw(row[6].encode())
        if version >= 29:
            summary |= {"parent_provider_uuid": row[2], "root_provider_uuid": row[3]}
    uuids = list(summaries)
    for at in range(0, len(uuids), _PART):
        part = uuids[at : at + _PART]
        for uuid, name, capacity, used in await context.db.scan(*sql.among(sql.USAGE_AMONG, part), list):
            if version >= 27 or name in wanted.resources:
                summaries[uuid]["resources"][name] = {"capacity": capacity, "used": used}
    return answer(
        request,
        {"allocation_requests": [_candidate(version, uuid, wanted.resources) for uuid in uuids],
         "provider_summaries": summaries},
    )  # fmt: skip


def _candidate(version: int, uuid: str, resources: dict[str, int]) -> dict[str, Any]:
    if version < 12:
        return {"allocations": [{"resource_provider": {"uuid": uuid}, "resources": resources}]}
    found: dict[str, Any] = {"allocations": {uuid: {"resources": resources}}}
    if version >= 34:
        found["mappings"] = {"": [uuid]}
    return found
