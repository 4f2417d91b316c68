"""Carries a plug-in that judges one host at a time over the hosts that pass so far.

A plug-in that fails passes nobody: a filter is a promise, and a host it could not judge is not known to keep it.
"""

from __future__ import annotations

from kilonova.log import get_logger
from kilonova.model.scheduling import Request
from kilonova.scheduler.arrays import Bools, np
from kilonova.scheduler.columns import HostColumns
from kilonova.scheduler.filters.protocol import HostFilter, HostView, Note

log = get_logger(__name__)


class PerHost:
    """A `Filter` made of a `HostFilter`."""

    when_forced = False

    def __init__(self, inner: HostFilter) -> None:
        self.name = inner.name
        self._inner = inner

    def narrow(self, columns: HostColumns, request: Request, passing: Bools, note: Note) -> None:
        for row in np.flatnonzero(passing).tolist():
            try:
                passing[row] = self._inner.passes(HostView(columns, row), request)
            except Exception:
                log.exception("filter %s failed", self.name)
                passing[:] = False
                break
        note("")
