"""One decision: filters narrow a mask, a strategy ranks what is left, places are taken best first.

Places chosen here are held in the columns at once, so that the next decision of this process already sees
them and no two of its claims collide. Deterministic but for the seed. Nothing awaits: a decision among
10,000 hosts takes well under a millisecond.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from kilonova.model.scheduling import Choice, Explanation, FilterStep, HostRef, Place, Request, Weight
from kilonova.scheduler.arrays import Bools, Floats, Ints, NDArray, np
from kilonova.scheduler.columns import HostColumns
from kilonova.scheduler.filters.protocol import Filter
from kilonova.scheduler.holds import HOLD_S
from kilonova.scheduler.strategies import Ranking, Strategy

_MASK64 = (1 << 64) - 1


def select(
    columns: HostColumns, filters: Sequence[Filter], strategy: Strategy, request: Request, now: float
) -> Choice:
    """Places for all servers of the request, or none; `now` in seconds of the monotonic clock."""
    columns.expire(now)
    for server in request.servers:
        columns.let_go(server)  # asked again: the earlier answer is void
    wanted, total = len(request.servers), len(columns)
    passing, steps = _narrow(columns, filters, request)
    rows = np.flatnonzero(passing) if not steps or steps[-1].left else np.empty(0, np.int64)
    if not len(rows):
        return Choice((), Explanation(total, tuple(steps), (), wanted))
    ranking = strategy.rank(columns, request, rows)
    if wanted == 1:
        picked, others = _best(columns, request, rows, ranking)
    else:
        picked, others, room = _spread(columns, request, rows, ranking)
        if room < wanted:
            return Choice((), Explanation(total, tuple(steps), (), wanted, room))
    weights = _weights(columns, rows, ranking, picked[0], others)
    refs: dict[int, HostRef] = {}
    places = []
    for server, at in zip(request.servers, picked, strict=True):
        row = int(rows[at])
        columns.hold(server, row, request.resources, now + HOLD_S)
        chosen = _ref(columns, refs, row)
        alternates: list[HostRef] = []
        for other in others:
            if len(alternates) == request.alternates:
                break
            ref = _ref(columns, refs, int(rows[other]))
            if other != at and ref.cell == chosen.cell:
                alternates.append(ref)
        places.append(Place(server, chosen, tuple(alternates)))
    return Choice(tuple(places), Explanation(total, tuple(steps), weights, wanted))


def _narrow(columns: HostColumns, filters: Sequence[Filter], request: Request) -> tuple[Bools, list[FilterStep]]:
    passing = columns.scratch("passing", np.bool_)
    np.copyto(passing, columns.alive[: columns.count])
    steps: list[FilterStep] = []
    left = len(columns)
    for each in filters:
        if request.force and not each.when_forced:
            continue
        name = each.name

        def note(what: str, name: str = name) -> bool:
            nonlocal left
            left = int(np.count_nonzero(passing))
            steps.append(FilterStep(f"{name} ({what})" if what else name, left))
            return left > 0

        each.narrow(columns, request, passing, note)
        if not left:
            break
    return passing, steps


def _best(columns: HostColumns, request: Request, rows: Ints, ranking: Ranking) -> tuple[list[int], list[int]]:
    """Index of one of the best hosts, and of the next ones of its cell, best first."""
    scores = ranking.scores
    equals = np.flatnonzero(scores >= float(scores.max()) - ranking.near)
    first = int(equals[_mix(request.seed) % len(equals)])
    found: list[int] = []
    if request.alternates and len(rows) > 1:
        rest = columns.scratch("rest", np.float64)[: len(rows)]
        np.copyto(rest, scores)
        rest[first] = -np.inf
        if len(columns.cells.texts) > 1:
            rest[columns.cell[rows] != columns.cell[rows[first]]] = -np.inf
        for turn in range(1, request.alternates + 1):
            if len(equals) > 2 * request.alternates:  # many alike: by chance too, or the losers of a race meet again
                at = int(equals[_mix(request.seed + turn) % len(equals)])
                if rest[at] == -np.inf:
                    at = int(rest.argmax())
            else:
                at = int(rest.argmax())
            if rest[at] == -np.inf:
                break
            found.append(at)
            rest[at] = -np.inf
    return [first], found


def _spread(
    columns: HostColumns, request: Request, rows: Ints, ranking: Ranking
) -> tuple[list[int], list[int], int]:
    """Indexes for all servers in one pass, the next best hosts, and how many servers there is room for.

    Always the host with the best score takes the next server and pays the step for it: what asking one
    at a time would do, with the scale of the weights held still.
    """
    wanted = len(request.servers)
    fits: Ints = np.full(len(rows), wanted, np.int64)
    for name, amount in request.resources.items():
        np.minimum(fits, columns.classes[name].free[rows] // amount, out=fits)
    room = int(fits.sum())
    if room < wanted:
        return [], [], room
    scores: Floats = ranking.scores
    layers = np.floor((float(scores.max()) - scores) / ranking.near)
    chance = _mix_all(request.seed, rows)
    keep = min(len(rows), wanted + request.alternates)
    if keep < len(rows):
        bound = np.partition(layers, keep - 1)[keep - 1]
        some = np.flatnonzero(layers <= bound)
    else:
        some = np.arange(len(rows))
    order = some[np.lexsort((chance[some], layers[some]))][:keep].tolist()
    # A packing step is negative: the host that took one becomes the best and is filled up.
    heap = [(float(layers[at]) * ranking.near, turn, at) for turn, at in enumerate(order)]
    heapq.heapify(heap)
    left = {at: int(fits[at]) for at in order}
    picked: list[int] = []
    while len(picked) < wanted and heap:
        cost, turn, at = heapq.heappop(heap)
        picked.append(at)
        left[at] -= 1
        if left[at]:
            heapq.heappush(heap, (cost + ranking.step, turn + len(order), at))
    return picked, [at for at in order if left[at]], room


def _weights(
    columns: HostColumns, rows: Ints, ranking: Ranking, first: int, others: list[int]
) -> tuple[Weight, ...]:
    found = []
    for at in [first, *[b for b in others if b != first][:1]]:
        row = int(rows[at])
        parts = {part.name: round(part.scale * (float(part.raw[at]) - part.low), 6) for part in ranking.parts}
        found.append(Weight(columns.host[row], columns.node[row], round(float(ranking.scores[at]), 6), parts))
    return tuple(found)


def _ref(columns: HostColumns, refs: dict[int, HostRef], row: int) -> HostRef:
    found = refs.get(row)
    if found is None:
        found = refs[row] = columns.ref(row)
    return found


def _mix_all(seed: int, rows: Ints) -> NDArray[np.uint64]:
    """The same for many rows at once; numpy's own generators cost 8 ms to import."""
    z = (rows.astype(np.uint64) + np.uint64(_mix(seed))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(31))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(29))


def _mix(seed: int) -> int:
    """Spread a seed over 64 bits (splitmix64's finalizer): neighbouring seeds pick unrelated hosts."""
    z = (seed + 0x9E3779B97F4A7C15) & _MASK64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & _MASK64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & _MASK64
    return z ^ (z >> 31)
