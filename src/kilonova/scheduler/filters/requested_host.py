"""RequestedHostFilter: the host, node, cell and exclusions that the request itself names."""

from __future__ import annotations

from kilonova.model.scheduling import Request
from kilonova.scheduler.arrays import Bools
from kilonova.scheduler.columns import HostColumns
from kilonova.scheduler.filters.protocol import Note


class RequestedHostFilter:
    name = "RequestedHostFilter"
    when_forced = True

    def narrow(self, columns: HostColumns, request: Request, passing: Bools, note: Note) -> None:
        if request.host is not None or request.node is not None:
            rows = [row for row in self._rows(columns, request) if passing[row]]
            passing[:] = False
            passing[rows] = True
            if not note("/".join(name for name in (request.host, request.node) if name)):
                return
        if request.cell is not None:
            passing &= columns.cell[: columns.count] == columns.cells.numbers.get(request.cell, -1)
            if not note(f"cell {request.cell}"):
                return
        if request.exclude:
            for uuid in request.exclude:
                row = columns.row.get(uuid)
                if row is not None:
                    passing[row] = False
            note("tried before")

    def _rows(self, columns: HostColumns, request: Request) -> list[int]:
        named = request.host is not None
        rows = columns.rows_of_host.get(request.host or "", ()) if named else columns.row.values()
        return [row for row in rows if request.node is None or columns.node[row] == request.node]
