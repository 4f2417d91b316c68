"""Carries a plug-in that weighs one host at a time; a plug-in that fails weighs nothing."""

from __future__ import annotations

from kilonova.log import get_logger
from kilonova.model.scheduling import Request
from kilonova.scheduler.arrays import Floats, Ints
from kilonova.scheduler.columns import HostColumns
from kilonova.scheduler.filters.protocol import HostView
from kilonova.scheduler.weighers.protocol import HostWeigher

log = get_logger(__name__)


class PerHost:
    """A `Weigher` made of a `HostWeigher`."""

    def __init__(self, inner: HostWeigher) -> None:
        self.name, self.multiplier = inner.name, inner.multiplier
        self._inner = inner

    def weigh(self, columns: HostColumns, request: Request, rows: Ints, out: Floats) -> float:
        try:
            out[:] = [self._inner.weight(HostView(columns, row), request) for row in rows.tolist()]
        except Exception:
            log.exception("weigher %s failed", self.name)
            out[:] = 0.0
        return 0.0
