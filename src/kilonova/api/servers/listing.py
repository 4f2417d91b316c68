"""GET /servers and /servers/detail: one statement a database, merged by (sort keys, uuid), rendered off the loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from kilonova.api.links import Base
from kilonova.api.microversion.version import LATEST
from kilonova.api.operation import Call, Span, operation
from kilonova.api.servers.fields import ATTRIBUTES
from kilonova.api.servers.finding import locate
from kilonova.api.servers.list_query import QUERY, Wanted, understand
from kilonova.api.servers.viewing import flags_of, look_of, renderer
from kilonova.db.database import Database
from kilonova.db.queries.server_pages import (
    ARCHIVED,
    Shape,
    behind,
    one,
    sort_values,
    statement,
    unpack,
)
from kilonova.db.statement import Row, Value
from kilonova.http.errors import BadRequest
from kilonova.http.message import Response
from kilonova.model.server import Server

_encode = msgspec.json.Encoder().encode
_SMALL = 16
_BATCH = 1000


async def _index(call: Call) -> Response:
    return await _list(call, "brief")


async def _detail(call: Call) -> Response:
    return await _list(call, "detail")


async def _list(call: Call, view: str) -> Response:
    wanted = understand(call, view == "detail")
    if wanted.nothing or not wanted.limit:
        return Response(200, b'{"servers":[]}', media="application/json")
    flags = flags_of(call, None) if view == "detail" else frozenset()
    render = renderer(view, await look_of(call, flags), call.version, flags)
    marker = await _marker(call, wanted)
    heavy = view == "detail" and ATTRIBUTES in flags and call.has("shows_user_data")
    tested = any(each.sql is None for each in wanted.filters)
    servers: list[Server] = []
    while True:
        step = _Step(call, wanted, view, heavy, marker, _BATCH if tested else wanted.limit)
        done = await step.run(servers, render, tested)
        if isinstance(done, bytes):
            break
        marker = done
    return Response(200, done, media="application/json")


async def _marker(call: Call, wanted: Wanted) -> tuple[Any, ...] | None:
    """The sort values behind which the page begins."""
    if wanted.marker is None:
        return None
    uuid = wanted.marker.lower()[:64]
    found = await locate(call.services, uuid)
    server = found.server if found is not None else None
    if server is None and wanted.archive != "no":
        for cell in dict.fromkeys(call.services.databases.cells.values()):
            row = await cell.fetch_one(ARCHIVED, {"uuid": uuid})
            server = one(row) if row is not None else server
    visible = server is not None and wanted.project_id in (None, server.project_id)
    if server is None or not visible:
        raise BadRequest(f"marker [{wanted.marker[:100]}] not found")
    return sort_values(server, wanted.sort)


class _Step:
    """One round of statements: a whole page, or a batch of it where a test decides on every row."""

    def __init__(
        self, call: Call, wanted: Wanted, view: str, heavy: bool, marker: tuple[Any, ...] | None, limit: int
    ) -> None:
        self.call, self.wanted, self.marker, self.limit = call, wanted, marker, limit
        needed = None
        if view == "brief" and all(each.sql is not None for each in wanted.filters):
            needed = frozenset({"uuid", "name"})
        databases = call.services.databases
        cells = list(dict.fromkeys(databases.cells.values()))
        self.parts: list[tuple[Database, Shape]] = []
        conditions = tuple(each.sql for each in wanted.filters if each.sql is not None)
        for database in dict.fromkeys([databases.global_, *cells]):
            shape = Shape(
                placed=database in cells, unplaced=database is databases.global_ and wanted.archive != "only",
                archive=wanted.archive, owned=wanted.project_id is not None, where=conditions, sort=wanted.sort,
                marker=marker is not None, columns=needed, heavy=heavy,
            )  # fmt: skip
            if shape.placed or shape.unplaced:
                self.parts.append((database, shape))

    def params(self) -> dict[str, Value]:
        params: dict[str, Value] = {"limit": self.limit}
        if self.wanted.project_id is not None:
            params["project_id"] = self.wanted.project_id
        for each in self.wanted.filters:
            params.update(each.params)
        for i, value in enumerate(self.marker or ()):
            params[f"m{i}"] = value
        return params

    async def run(
        self, servers: list[Server], render: Callable[[list[Server]], list[Any]], tested: bool
    ) -> bytes | tuple[Any, ...]:
        """Add to `servers`; the finished body, or the sort values to go on from."""
        params = self.params()
        gathered: list[Row] = []
        # The index is read first: who is placed meanwhile is then seen in the cell, or in both, never in neither.
        for database, shape in self.parts[:-1]:
            gathered += await database.scan(statement(shape), _used(statement(shape).names, params), list)

        def fold(rows: list[Row]) -> bytes | tuple[Any, ...]:
            return self._merge(gathered + list(rows), servers, render, tested)

        database, shape = self.parts[-1]
        text = statement(shape)
        if self.limit <= _SMALL and len(self.parts) == 1:
            return fold(await database.fetch(text, _used(text.names, params)))
        return await database.scan(text, _used(text.names, params), fold)

    def _merge(
        self, rows: list[Row], servers: list[Server], render: Callable[[list[Server]], list[Any]], tested: bool
    ) -> bytes | tuple[Any, ...]:
        wanted = self.wanted
        placed, unplaced = unpack(rows)
        several = len(self.parts) > 1 or wanted.archive == "also"
        if several:
            placed = _sorted(placed, wanted.sort)
        horizon = None
        kept = placed
        if tested:
            # Every arm gave its first `limit` rows, so the first `limit` of them together are complete.
            if len(placed) >= self.limit:
                placed = placed[: self.limit]
                horizon = sort_values(placed[-1], wanted.sort)
            tests = [each.test for each in wanted.filters if each.sql is None]
            kept = [v for v in placed if all(test(v) for test in tests)]
        seen = {v.uuid for v in placed}
        for server in unplaced:
            if server.uuid in seen or not all(each.test(server) for each in wanted.filters):
                continue
            values = sort_values(server, wanted.sort)
            if self.marker is not None and not behind(values, self.marker, wanted.sort):
                continue
            if horizon is not None and behind(values, horizon, wanted.sort):
                continue  # belongs to a later batch
            kept.append(server)
        if unplaced:
            kept = _sorted(kept, wanted.sort)
        servers += kept[: wanted.limit - len(servers)]
        if horizon is not None and len(servers) < wanted.limit:
            return horizon
        shown: dict[str, Any] = {"servers": render(servers)}
        if servers and len(servers) == wanted.limit:
            call = self.call
            base: Base = call.request.state["base"]
            shown["servers_links"] = base.next_page(call.operation.path, call.request.query, servers[-1].uuid)
        return _encode(shown)


def _sorted(servers: list[Server], sort: tuple[tuple[str, bool], ...]) -> list[Server]:
    unique = list({server.uuid: server for server in servers}.values())
    for i in reversed(range(len(sort))):
        unique.sort(key=lambda v: sort_values(v, sort[i : i + 1]), reverse=sort[i][1])
    return unique


def _used(names: tuple[str, ...], params: dict[str, Value]) -> dict[str, Value]:
    return {name: params[name] for name in names}


def _declare(path: str, function: Any, rule: str, until: int) -> Any:
    facets = {"unknown_status_refused": Span(38), "shows_user_data": Span(3)}
    return operation("GET", path, rule, query=QUERY, until=until, facets=facets)(function)


OPERATIONS = tuple(
    _declare(path + tail, function, rule, until)
    for path, until in (("/servers", LATEST), ("/os-volumes_boot", 102))
    for tail, function, rule in (
        ("", _index, "os_compute_api:servers:index"),
        ("/detail", _detail, "os_compute_api:servers:detail"),
    )
)
