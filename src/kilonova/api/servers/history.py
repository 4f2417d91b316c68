"""/servers/{id}/os-instance-actions: what was done to a server, by which request, with what outcome."""

from __future__ import annotations

from typing import Any

from kilonova.api.microversion import schemas as s
from kilonova.api.microversion.fields import Field, In, Out, Resource, query
from kilonova.api.microversion.validation import parse_time
from kilonova.api.moments import plain
from kilonova.api.operation import WEIGHED, Call, Span, operation
from kilonova.api.paging import page_size
from kilonova.api.servers.fields import host_id
from kilonova.api.servers.finding import Found, find, find_even_deleted
from kilonova.db.queries import instance_actions as rows
from kilonova.db.queries.instance_actions import Action, action, event
from kilonova.db.statement import Value
from kilonova.http.errors import BadRequest, NotFound

_RULE = "os_compute_api:os-instance-actions:"
_PATH = "/servers/{server_id}/os-instance-actions"
TRACES, DETAILS = "traces", "details"
_LAST = (1 << 62) - 1

ACTION = Resource(
    "instanceAction",
    [
        Field("action", show=lambda v, _: v.action),
        Field("instance_uuid", show=lambda v, _: v.server),
        Field("request_id", show=lambda v, _: v.request_id),
        Field("user_id", show=lambda v, _: v.user_id),
        Field("project_id", show=lambda v, _: v.project_id),
        Field("start_time", show=lambda v, _: plain(v.started_at)),
        Field("message", show=lambda v, _: v.message),
        Field("updated_at", since=58, show=lambda v, _: plain(v.updated_at)),
    ],
)
EVENT = Resource(
    "event",
    [
        Field("event", show=lambda v, _: v.event),
        Field("start_time", show=lambda v, _: plain(v.started_at)),
        Field("finish_time", show=lambda v, _: plain(v.finished_at)),
        Field("result", show=lambda v, _: v.result),
        Field("traceback", show=Out(lambda v, _: v.traceback, flag=TRACES)),
        Field("hostId", since=62, show=lambda v, project: host_id(project, v.host) if v.host else ""),
        Field("host", since=62, show=Out(lambda v, _: v.host, flag=TRACES)),
        Field("details", since=84, show=Out(lambda v, _: v.details, flag=DETAILS)),
    ],
)
_ACTION, _EVENT = ACTION.view(), EVENT.view()
_FACETS = {"of_deleted": Span(21), "events_for_all": Span(51), "pages": Span(58)}
_QUERY = query(
    ("limit", In(s.QUERY_COUNT, since=58)),
    ("marker", In(s.TEXT, since=58)),
    ("changes-since", In(s.DATE, since=58)),
    ("changes-before", In(s.DATE, since=66)),
    strict=58,
)


async def _server(call: Call, rule: str) -> Found:
    return await (find_even_deleted if call.has("of_deleted") else find)(call, _RULE + rule)


@operation("GET", _PATH, WEIGHED, query=_QUERY, facets=_FACETS)
async def index(call: Call) -> Any:
    found = await _server(call, "list")
    limit = page_size(call.one("limit") if call.has("pages") else None, call.services.settings.max_limit)
    if found.database is None:
        return {"instanceActions": []}
    listed = [action(row) for row in await _page(call, found, limit)]
    shown: dict[str, Any] = {"instanceActions": [_ACTION.render(each, None, call.version) for each in listed]}
    if call.has("pages") and listed and len(listed) == limit:
        base = call.request.state["base"]
        path = f"/servers/{found.server.uuid}/os-instance-actions"
        shown["links"] = base.next_page(path, call.request.query, listed[-1].request_id)
    return shown


async def _page(call: Call, found: Found, limit: int) -> list[Any]:
    assert found.database is not None
    uuid = found.server.uuid
    if not call.has("pages"):
        return await found.database.fetch(rows.OF_SERVER, {"server": uuid, "limit": limit})
    since = parse_time(call.one("changes-since") or "1970-01-01T00:00:00Z") or 0
    before = parse_time(call.one("changes-before") or "") if "changes-before" in call.query else _LAST
    before = _LAST if before is None else before + (999_999 if before % 1_000_000 == 0 else 0)
    if since > before:
        raise BadRequest("The value of changes-since must be less than or equal to changes-before.")
    marker_at, marker_id = _LAST, "~"
    marker = call.one("marker")
    if marker is not None:
        row = await found.database.fetch_one(rows.BY_REQUEST, {"server": uuid, "request_id": marker[:64]})
        if row is None:
            raise BadRequest(f"Marker {marker[:100]} could not be found.")
        last = action(row)
        marker_at, marker_id = last.started_at, last.id
    params: dict[str, Value] = {
        "server": uuid, "limit": limit, "since": since, "before": before, "marker_at": marker_at,
        "marker_id": marker_id,
    }  # fmt: skip
    return await found.database.fetch(rows.PAGE, params)


@operation("GET", _PATH + "/{request_id}", WEIGHED, facets=_FACETS)
async def show(call: Call) -> Any:
    found = await _server(call, "show")
    request_id = call.params["request_id"]
    row = None
    if found.database is not None:
        params = {"server": found.server.uuid, "request_id": request_id[:64]}
        row = await found.database.fetch_one(rows.BY_REQUEST, params)
    if row is None:
        raise NotFound(f"Action {request_id[:100]} not found")
    known = action(row)
    shown = _ACTION.render(known, None, call.version)
    everything = call.may(_RULE + "events", found.target)
    if everything or call.has("events_for_all"):
        shown["events"] = await _events(call, found, known, everything)
    return {"instanceAction": shown}


async def _events(call: Call, found: Found, known: Action, everything: bool) -> list[dict[str, Any]]:
    assert found.database is not None
    flags = {TRACES} if everything else set()
    if call.may(_RULE + "events:details", found.target):
        flags.add(DETAILS)
    listed = await found.database.fetch(rows.EVENTS, {"id": known.id})
    project = known.project_id or found.server.project_id
    return [_EVENT.render(event(row), project, call.version, frozenset(flags)) for row in listed]


OPERATIONS = (index, show)
