"""NumInstancesWeigher: off by default; a positive multiplier packs by count, a negative one spreads."""

from __future__ import annotations

from kilonova.model.scheduling import Request
from kilonova.scheduler.arrays import Floats, Ints
from kilonova.scheduler.columns import HostColumns


class NumInstancesWeigher:
    name = "NumInstancesWeigher"

    def __init__(self, multiplier: float = 0.0) -> None:
        self.multiplier = multiplier

    def weigh(self, columns: HostColumns, request: Request, rows: Ints, out: Floats) -> float:
        out[:] = columns.instances[rows]
        return 1.0
