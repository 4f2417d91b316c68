"""TraitsFilter: the host has every required trait and no forbidden one (Nova leaves this to Placement)."""

from __future__ import annotations

from collections.abc import Iterable

from kilonova.model.scheduling import Request
from kilonova.scheduler.arrays import Bools, np
from kilonova.scheduler.columns import HostColumns
from kilonova.scheduler.filters.protocol import Note


class TraitsFilter:
    name = "TraitsFilter"
    when_forced = True

    def narrow(self, columns: HostColumns, request: Request, passing: Bools, note: Note) -> None:
        if request.required:
            if request.required <= columns.traits.keys():
                self._narrow(columns, request.required, passing, wanted=True)
            else:
                passing[:] = False
            if not note(_said(request.required)):
                return
        if request.forbidden:
            known = request.forbidden & columns.traits.keys()
            if known:
                self._narrow(columns, known, passing, wanted=False)
            note("!" + _said(request.forbidden))

    def _narrow(self, columns: HostColumns, names: Iterable[str], passing: Bools, *, wanted: bool) -> None:
        words: dict[int, int] = {}
        for name in names:
            bit = columns.traits[name]
            words[bit >> 6] = words.get(bit >> 6, 0) | 1 << (bit & 63)
        found = columns.scratch("words", np.uint64)
        same = columns.scratch("mask", np.bool_)
        for word, bits in words.items():
            np.bitwise_and(columns.trait_words[word, : columns.count], np.uint64(bits), out=found)
            np.equal(found, np.uint64(bits if wanted else 0), out=same)
            np.logical_and(passing, same, out=passing)


def _said(names: frozenset[str]) -> str:
    listed = sorted(names)
    return ", ".join(listed[:3]) + (", ..." if len(listed) > 3 else "")
