"""Which services are up: their beats, judged by this process's own monotonic clock.

A beat is a counter; what counts is *when it was last seen to change*, so no two clocks are ever
compared. A service never heard of is up for `grace_s` after it was first known: a fresh scheduler does
not declare a whole cloud dead before the first beats arrive. `forced_down` is not judged here.
"""

from __future__ import annotations

from collections.abc import Mapping

from kilonova.scheduler.arrays import Bools, np
from kilonova.scheduler.columns import HostColumns

DOWN_AFTER_S = 60.0
"""Nova's service_down_time."""


class Liveness:
    """Beats of hosts by name; writes the `up` column."""

    def __init__(self, columns: HostColumns, down_after_s: float = DOWN_AFTER_S, grace_s: float | None = None) -> None:
        self._columns = columns
        self.down_after_s = down_after_s
        self.grace_s = down_after_s if grace_s is None else grace_s
        self._beats: dict[str, tuple[str, int]] = {}
        self._seen = np.full(columns.size, -np.inf)

    def watch(self, host: str, now: float) -> None:
        """Begin to judge a host (known from the database); nothing changes for one already judged."""
        if host not in self._beats:
            self._beats[host] = ("", -1)
            self._mark(host, now - self.down_after_s + self.grace_s, self.grace_s > 0)

    def beat(self, beats: Mapping[str, int], now: float, incarnation: str = "") -> None:
        """Take in beats: host -> counter of its process's `incarnation`. `now`: monotonic seconds."""
        for host, counter in beats.items():
            beat = (incarnation, counter)
            if self._beats.get(host) != beat:
                self._beats[host] = beat
                self._mark(host, now, True)

    def down(self, host: str) -> None:
        """A host that said goodbye is down at once."""
        self._mark(host, -np.inf, False)

    def is_up(self, host: str, now: float) -> bool:
        rows = self._columns.rows_of_host.get(host)
        return rows is not None and len(rows) > 0 and now - self._of(rows[0]) < self.down_after_s

    def judge(self, now: float) -> int:
        """Write the `up` column; how many hosts changed. Call it about once a second."""
        columns = self._columns
        self._fit()
        up: Bools = now - self._seen[: columns.count] < self.down_after_s
        changed = int(np.count_nonzero(up != columns.up[: columns.count]))
        if changed:
            columns.put_up(up)
        return changed

    def _of(self, row: int) -> float:
        self._fit()
        return float(self._seen[row])

    def _mark(self, host: str, when: float, up: bool) -> None:
        self._fit()
        for row in self._columns.rows_of_host.get(host, ()):
            self._seen[row] = when
            self._columns.set_up(row, up)

    def _fit(self) -> None:
        if len(self._seen) < self._columns.size:
            grown = np.full(self._columns.size, -np.inf)
            grown[: len(self._seen)] = self._seen
            self._seen = grown
