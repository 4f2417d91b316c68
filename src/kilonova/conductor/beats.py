"""Signs of life that cross processes: written by the conductor that hears them, judged by whoever reads them.

A beat is a counter in the service's row. What counts is when a reader last saw it change, by the reader's own
monotonic clock: no two clocks are ever compared. Time in which the rows could not be read does not count
against anyone. Where one process is the whole cloud nothing is written: it hears every beat itself.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from kilonova.db.database import Database, Tx
from kilonova.db.errors import DatabaseError
from kilonova.db.queries import services
from kilonova.log import get_logger

log = get_logger(__name__)

COMPUTE = "nova-compute"
WRITE_S = 5.0
"""How often beats are written."""
READ_S = 2.0
"""How often they are read."""
DOWN_AFTER_S = 60.0
"""Nova's service_down_time."""
GRACE_S = 15.0
"""For how long a service found at the first look counts as up: three beats."""
Beat = Callable[[tuple[str, ...], str, int], None]
"""(hosts, incarnation, counter), as `Scheduler.beat` takes it."""


class BeatWriter:
    """The beats of this process, and of the hosts whose reports it takes."""

    def __init__(
        self, database: Database, host: str, programs: tuple[str, ...], now_us: Callable[[], int]
    ) -> None:
        """`database`: the global one; `host`: where this process runs; `programs`: what it is, in Nova's names."""
        self._database, self._now = database, now_us
        self.host, self.programs = host, programs
        self._heard: dict[str, tuple[str, ...]] = {}

    def heard(self, hosts: tuple[str, ...], incarnation: str) -> None:
        """A process told that it lives, for all hosts it is."""
        self._heard[incarnation] = hosts

    async def enter(self) -> None:
        """Make this process's own rows."""
        await self._database.write(_enter, (self.host, self.programs, self._now()))

    async def write(self) -> None:
        """Count a beat of this process and of every host heard since the last time."""
        heard, self._heard = self._heard, {}
        hosts = tuple(sorted({host for members in heard.values() for host in members}))
        await self._database.write(_write, (self.host, self.programs, hosts, self._now()))


async def _enter(tx: Tx, args: tuple[str, tuple[str, ...], int]) -> None:
    host, programs, now = args
    for program in programs:
        await services.enter(tx, host, program, None, now)


async def _write(tx: Tx, args: tuple[str, tuple[str, ...], tuple[str, ...], int]) -> None:
    host, programs, hosts, now = args
    for program in programs:
        if not await services.beat(tx, (host,), program, now):
            await services.enter(tx, host, program, None, now)  # an admin deleted the row of what lives
    if hosts:
        await services.beat(tx, hosts, COMPUTE, now)


class BeatReader:
    """Which services are up, for processes that do not hear them: `run` must be running."""

    def __init__(
        self, database: Database, *, down_after_s: float = DOWN_AFTER_S, grace_s: float = GRACE_S,
        beat: Beat | None = None, monotonic: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        """`beat` is told of compute hosts whose beat has moved."""
        self._database, self._beat, self._monotonic = database, beat, monotonic
        self._down_after, self._grace = down_after_s, grace_s
        self._seen: dict[tuple[str, str], tuple[int, float]] = {}
        self._looked = 0.0
        """Seconds in which beats could be seen."""
        self._last: float | None = None
        self._moved: tuple[str, ...] = ()
        self._rounds = 0

    def is_up(self, host: str, program: str) -> bool:
        """Whether the service's beat moved lately; False for one that has no row."""
        seen = self._seen.get((host, program))
        return seen is not None and self._looked - seen[1] < self._down_after

    async def run(self) -> None:
        """Look again and again until cancelled."""
        while True:
            try:
                await self.poll()
            except DatabaseError as error:
                log.warning("beats cannot be read: %s", error)
            await asyncio.sleep(READ_S)

    async def poll(self) -> None:
        """Look once. Raises DatabaseError."""
        rows = await services.beats(self._database)
        now = self._monotonic()
        first = self._last is None
        if self._last is not None:
            self._looked += min(now - self._last, 2 * READ_S)
        self._last = now
        found: dict[tuple[str, str], tuple[int, float]] = {}
        moved: list[str] = []
        for host, program, beat in rows:
            seen = self._seen.get((host, program))
            if seen is None:
                found[host, program] = (beat, self._looked - (self._down_after - self._grace if first else 0.0))
            elif seen[0] == beat:
                found[host, program] = seen
            else:
                found[host, program] = (beat, self._looked)
                if program == COMPUTE:
                    moved.append(host)
        self._seen = found
        self._tell(tuple(sorted(moved)))

    def _tell(self, moved: tuple[str, ...]) -> None:
        if not moved or self._beat is None:
            return
        if moved != self._moved:
            self._moved = moved
        self._rounds += 1
        self._beat(self._moved, f"beats/{id(self)}", self._rounds)
