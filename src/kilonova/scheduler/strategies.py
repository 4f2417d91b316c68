"""How hosts that passed the filters are ranked.

A strategy gives each host a score and says how much one more server changes it; hosts whose scores
differ by less than half of that are equals, and one of them is picked by the request's seed: schedulers
that decide at the same time do not all take the same host.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from kilonova.model.scheduling import Request
from kilonova.scheduler.arrays import Floats, Ints, np
from kilonova.scheduler.columns import HostColumns
from kilonova.scheduler.filters.protocol import HostView
from kilonova.scheduler.weighers.protocol import Weigher

_ROUND = 1e-9
"""Scores closer than this are equal whatever the weights: floating point is not a preference."""


@dataclass(slots=True)
class Part:
    """One weigher's share of a score: ``scale * (raw - low)``."""

    name: str
    scale: float
    low: float
    raw: Floats


@dataclass(slots=True)
class Ranking:
    """Scores of the hosts that passed."""

    scores: Floats
    step: float
    """By how much the score of a host falls with one more server on it (negative: it rises, packing)."""
    near: float
    """Scores closer than this are equals."""
    parts: Sequence[Part] = ()


class Strategy(Protocol):
    name: str

    def rank(self, columns: HostColumns, request: Request, rows: Ints) -> Ranking:
        """Score `rows` (not empty)."""


class FilterAndWeigh:
    """The default: Nova's weighers, normalised and summed."""

    name = "filter"

    def __init__(self, weighers: Sequence[Weigher]) -> None:
        self.weighers = tuple(weighers)

    def rank(self, columns: HostColumns, request: Request, rows: Ints) -> Ranking:
        count = len(rows)
        scores = columns.scratch("scores", np.float64)[:count]
        product = columns.scratch("product", np.float64)[:count]
        scores.fill(0.0)
        fall, told, parts = 0.0, 0.0, []
        for weigher in self.weighers:
            raw = columns.scratch(weigher.name, np.float64)[:count]
            change = weigher.weigh(columns, request, rows, raw)
            low, high = float(raw.min()), float(raw.max())
            # Over equal hosts Nova's weights are all 0; what one server changes is then the only difference to come.
            spread = high - low or abs(change)
            scale = weigher.multiplier / spread if spread else 0.0
            if high > low:
                np.multiply(raw, scale, out=product)
                np.add(scores, product, out=scores)
                np.subtract(scores, scale * low, out=scores)
                told -= scale * change
            fall -= scale * change
            parts.append(Part(weigher.name, scale, low, raw))
        return Ranking(scores, fall, max(abs(told) / 2, _ROUND), parts)


class Chance:
    """Any host that passes, all alike."""

    name = "chance"

    def rank(self, columns: HostColumns, request: Request, rows: Ints) -> Ranking:
        scores = columns.scratch("scores", np.float64)[: len(rows)]
        scores.fill(0.0)
        return Ranking(scores, 0.0, _ROUND)


class ZoneChance:
    """Any host of one zone: the one asked for, else one that the seed picks among those with hosts that pass."""

    name = "zone"

    def rank(self, columns: HostColumns, request: Request, rows: Ints) -> Ranking:
        scores = columns.scratch("scores", np.float64)[: len(rows)]
        zones = columns.zone[rows]
        present = np.unique(zones)
        np.copyto(scores, zones == present[request.seed % len(present)])
        return Ranking(scores, 0.0, _ROUND)


Load = Callable[[HostView], float]
"""A host's load by any measure; a load balancer's, for instance."""


class LeastLoad:
    """The least loaded host: by default the largest share of any resource class in use."""

    name = "simple"

    def __init__(self, load: Load | None = None) -> None:
        self._load = load

    def rank(self, columns: HostColumns, request: Request, rows: Ints) -> Ranking:
        scores = columns.scratch("scores", np.float64)[: len(rows)]
        if self._load is not None:
            scores[:] = [-self._load(HostView(columns, row)) for row in rows.tolist()]
            return Ranking(scores, 0.0, _ROUND)
        scores.fill(1.0)
        fall = 0.0
        for name, amount in request.resources.items():
            column = columns.classes[name]
            capacity = np.maximum(column.capacity[rows], 1)
            np.minimum(scores, column.free[rows] / capacity, out=scores)
            fall = max(fall, amount / float(capacity.max()))
        return Ranking(scores, fall, max(fall / 2, _ROUND))


def build(name: str, weighers: Sequence[Weigher], load: Load | None = None) -> Strategy:
    """The strategy `filter`, `chance`, `zone` or `simple`."""
    made: dict[str, Callable[[], Strategy]] = {
        "filter": lambda: FilterAndWeigh(weighers),
        "chance": Chance,
        "zone": ZoneChance,
        "simple": lambda: LeastLoad(load),
    }
    if name not in made:
        raise ValueError(f"no scheduler strategy is named {name}; there are {', '.join(sorted(made))}")
    return made[name]()
