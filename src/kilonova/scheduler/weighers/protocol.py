"""What a weigher is: raw weights of the hosts that passed; the selection normalises and adds them up.

Nova's arithmetic: each weigher's values are brought to 0..1 over the hosts that passed (all 0 when they
are equal), times its multiplier, summed; the highest sum wins.
"""

from __future__ import annotations

from typing import Protocol

from kilonova.model.scheduling import Request
from kilonova.scheduler.arrays import Floats, Ints
from kilonova.scheduler.columns import HostColumns
from kilonova.scheduler.filters.protocol import HostView


class Weigher(Protocol):
    name: str
    """Nova's name."""
    multiplier: float

    def weigh(self, columns: HostColumns, request: Request, rows: Ints, out: Floats) -> float:
        """Write the raw weight of each of `rows` to `out`; return by how much one more server changes a host's."""


class HostWeigher(Protocol):
    """A weigher written for one host at a time (plug-ins)."""

    name: str
    multiplier: float

    def weight(self, host: HostView, request: Request) -> float: ...
