"""Which hosts are up: their beats, judged by this process's own monotonic clock.

A beat is a counter of a process and stands for all hosts that the process speaks for. What counts is *when it
was last seen to change*, so no two clocks are ever compared. A host never heard of is up for `grace_s` after it
was first known: a fresh scheduler does not declare a whole cloud dead before the first beats
arrive. `forced_down` is not judged here.
"""

from __future__ import annotations

from dataclasses import dataclass

from kilonova.scheduler.arrays import Bools, Ints, np
from kilonova.scheduler.columns import HostColumns

DOWN_AFTER_S = 60.0
"""Nova's service_down_time."""
_PROCESSES = 4096


@dataclass(slots=True)
class _Process:
    hosts: tuple[str, ...]
    counter: int
    rows: Ints
    layout: int


class Liveness:
    """Beats by process; writes the `up` column."""

    def __init__(self, columns: HostColumns, down_after_s: float = DOWN_AFTER_S, grace_s: float | None = None) -> None:
        self._columns = columns
        self.down_after_s = down_after_s
        self.grace_s = down_after_s if grace_s is None else grace_s
        self._processes: dict[str, _Process] = {}
        self._seen = np.full(columns.size, -np.inf)
        self._watched: set[str] = set()

    def watch(self, host: str, now: float) -> None:
        """Begin to judge a host (known from the database); nothing changes for one already judged."""
        if host in self._watched:
            return
        self._watched.add(host)
        self._fit()
        for row in self._columns.rows_of_host.get(host, ()):
            self._seen[row] = max(self._seen[row], now - self.down_after_s + self.grace_s)
            self._columns.set_up(row, now - self._seen[row] < self.down_after_s)

    def beat(self, hosts: tuple[str, ...], incarnation: str, counter: int, now: float) -> None:
        """Take in a beat of the process `incarnation` for its hosts. `now`: monotonic seconds."""
        known = self._processes.get(incarnation)
        columns = self._columns
        if known is not None and known.counter == counter and known.hosts is hosts:
            return
        if known is None or known.layout != columns.layout or known.hosts is not hosts:
            if len(self._processes) >= _PROCESSES:
                self._processes.pop(next(iter(self._processes)))
            rows = [row for host in hosts for row in columns.rows_of_host.get(host, ())]
            known = _Process(hosts, counter, np.array(rows, np.int64), columns.layout)
            self._processes[incarnation] = known
        known.counter = counter
        self._fit()
        self._seen[known.rows] = now
        if not columns.up[known.rows].all():
            for row in known.rows.tolist():
                columns.set_up(row, True)

    def down(self, host: str) -> None:
        """A host that said goodbye is down at once."""
        self._fit()
        for row in self._columns.rows_of_host.get(host, ()):
            self._seen[row] = -np.inf
            self._columns.set_up(row, False)

    def is_up(self, host: str, now: float) -> bool:
        self._fit()
        return any(now - self._seen[row] < self.down_after_s for row in self._columns.rows_of_host.get(host, ()))

    def judge(self, now: float) -> int:
        """Write the `up` column; how many hosts changed. Call it about once a second."""
        columns = self._columns
        self._fit()
        up: Bools = now - self._seen[: columns.count] < self.down_after_s
        changed = int(np.count_nonzero(up != columns.up[: columns.count]))
        if changed:
            columns.put_up(up)
        return changed

    def _fit(self) -> None:
        if len(self._seen) < self._columns.size:
            grown = np.full(self._columns.size, -np.inf)
            grown[: len(self._seen)] = self._seen
            self._seen = grown
