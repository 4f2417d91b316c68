"""ComputeFilter: the service is enabled, not forced down, and its beat is fresh."""

from __future__ import annotations

from kilonova.model.scheduling import Request
from kilonova.scheduler.arrays import Bools, np
from kilonova.scheduler.columns import HostColumns
from kilonova.scheduler.filters.protocol import Note


class ComputeFilter:
    name = "ComputeFilter"
    when_forced = False

    def narrow(self, columns: HostColumns, request: Request, passing: Bools, note: Note) -> None:
        np.logical_and(passing, columns.available[: columns.count], out=passing)
        note("")
