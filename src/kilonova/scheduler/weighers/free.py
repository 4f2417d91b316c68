"""RAMWeigher, CPUWeigher, DiskWeigher: most free first (a negative multiplier packs instead of spreading)."""

from __future__ import annotations

from kilonova.model.scheduling import Request
from kilonova.scheduler.arrays import Floats, Ints, np
from kilonova.scheduler.columns import HostColumns


class FreeWeigher:
    """What is left of one resource class."""

    def __init__(self, name: str, resource_class: str, multiplier: float = 1.0) -> None:
        self.name, self.resource_class, self.multiplier = name, resource_class, multiplier

    def weigh(self, columns: HostColumns, request: Request, rows: Ints, out: Floats) -> float:
        column = columns.classes.get(self.resource_class)
        if column is None:
            out[:] = 0.0
            return 0.0
        if len(rows) == columns.count:
            np.copyto(out, column.free[: columns.count])
        else:
            taken = columns.scratch("taken", np.int64)[: len(rows)]
            np.take(column.free, rows, out=taken, mode="clip")  # "clip": the only mode that fills `out` directly
            np.copyto(out, taken)
        return -float(request.resources.get(self.resource_class, 0))
