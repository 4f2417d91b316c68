"""CapacityFilter: what Placement would grant, class by class (Nova asks Placement for this first).

The claim decides; this keeps the scheduler from choosing what the claim would refuse.
"""

from __future__ import annotations

from kilonova.model.scheduling import Request
from kilonova.scheduler.arrays import Bools, np
from kilonova.scheduler.columns import HostColumns
from kilonova.scheduler.filters.protocol import Note


class CapacityFilter:
    name = "CapacityFilter"
    when_forced = True

    def narrow(self, columns: HostColumns, request: Request, passing: Bools, note: Note) -> None:
        fits = columns.scratch("mask", np.bool_)
        for name, amount in request.resources.items():
            column = columns.classes.get(name)
            if column is None:
                passing[:] = False
            else:
                np.greater_equal(column.most[: columns.count], amount, out=fits)
                np.logical_and(passing, fits, out=passing)
                for row, (least, step) in column.odd.items():
                    if amount < least or amount % step:
                        passing[row] = False
            if not note(name):
                return
