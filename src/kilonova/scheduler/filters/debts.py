"""DebtFilter: a host that still has to remove something takes nothing new (contracts: 1.10)."""

from __future__ import annotations

from kilonova.model.scheduling import Request
from kilonova.scheduler.arrays import Bools, np
from kilonova.scheduler.columns import HostColumns
from kilonova.scheduler.filters.protocol import Note


class DebtFilter:
    name = "DebtFilter"
    when_forced = True

    def narrow(self, columns: HostColumns, request: Request, passing: Bools, note: Note) -> None:
        owing = columns.owing[: columns.count]
        if owing.any():
            np.logical_and(passing, ~owing, out=passing)
            note("")
