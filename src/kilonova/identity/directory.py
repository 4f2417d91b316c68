"""The identity data of this process: read once, kept fresh, changed by optimistic transactions.

A change is decided by a pure function over the State and committed only if nobody changed anything since
that State (one conditional UPDATE of the version); otherwise the State is refreshed and the function asked
again. So uniqueness, references and cascades are plain Python over memory and yet hold between processes.
Who asks is answered by data at most `STALE_S` old: `fresh()` reads the version when the last look is older.
That look does not go through the relay of changes, because a revocation may not wait for a leased task
elsewhere.

Must not know HTTP, tokens or passwords.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TypeVar

from kilonova.db.database import Database
from kilonova.db.errors import Busy, DatabaseError
from kilonova.db.queries import identity as queries
from kilonova.db.statement import Row
from kilonova.identity.records import Record, decode, encode
from kilonova.identity.state import State
from kilonova.log import get_logger

T = TypeVar("T")
log = get_logger(__name__)

STALE_S = 0.9
"""Answers are never given on data that was last found current longer ago than this."""
POLL_S = 0.4
_TRIES = 16
_TRIM_S = 600.0
_TOMBSTONES_US = 3600 * 1_000_000
_REVOCATIONS_US = 4 * 24 * 3600 * 1_000_000
"""Longer than any token can be asked about."""


def now_us() -> int:
    """Microseconds UTC."""
    return time.time_ns() // 1000


class Edit:
    """What a change wants: collected, then committed together."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.writes: dict[tuple[str, str], Record | None] = {}

    def put(self, record: Record) -> None:
        self.writes[record.kind, record.key] = record

    def delete(self, record: Record) -> None:
        """Delete a record and all that hangs on it."""
        for each in (*self.state.dependents(record), record):
            self.writes[each.kind, each.key] = None


def _decoded(rows: list[Row]) -> list[tuple[int, str, str, Record | None]]:
    return [
        (version, kind, key, None if deleted else decode(kind, body)) for version, kind, key, deleted, body in rows
    ]


Decide = Callable[[State, Edit], T]


class Directory:
    """Identity data over the global database. Call `start()` before anything else."""

    def __init__(self, db: Database, clock: Callable[[], int] = now_us) -> None:
        self.db = db
        self.state = State()
        self.clock = clock
        self.fresh_at = -1e9
        """`time.monotonic()` of the last look that found the State current."""
        self._lock = asyncio.Lock()

    def __repr__(self) -> str:
        return f"Directory({self.state!r})"

    async def start(self) -> None:
        """Read everything. Raises DatabaseError."""
        await self.refresh()

    async def fresh(self) -> State:
        """The State, looked after if the last look is `STALE_S` old. Raises DatabaseError."""
        if time.monotonic() - self.fresh_at > STALE_S:
            await self.refresh()
        return self.state

    async def refresh(self) -> None:
        """Take in what others have changed. Raises DatabaseError."""
        asked = time.monotonic()
        async with self._lock:
            if self.fresh_at < asked:
                await self._refresh()

    async def _refresh(self) -> None:
        began = time.monotonic()
        newest, trimmed = await queries.version(self.db)
        state = self.state
        if newest < state.version or trimmed > state.version:
            state = State()  # the database was put back, or deletions we never saw are forgotten
        if newest != state.version:
            for version, kind, key, record in await queries.after(self.db, state.version, _decoded):
                if record is None:
                    state.drop(kind, key)
                else:
                    state.put(record)
                state.version = version
            state.version = max(state.version, newest)  # what changed last may be forgotten already
        self.state = state
        self.fresh_at = began

    async def change(self, decide: Decide[T]) -> T:
        """Run `decide(state, edit)` and commit its edits; return what it returned.

        `decide` is pure, may be called several times, and refuses by raising. Raises that, Busy, DatabaseError.
        """
        async with self._lock:
            for _ in range(_TRIES):
                edit = Edit(self.state)
                value = decide(self.state, edit)
                if not edit.writes:
                    return value
                writes = [
                    queries.Write(kind, key, encode(record) if record is not None else "")
                    for (kind, key), record in edit.writes.items()
                ]
                seen = self.state.version
                if await self.db.write(queries.commit, queries.Batch(seen, writes, self.clock())):
                    self._apply(edit, seen + 1)
                    return value
                await self._refresh()
        raise Busy("identity data changes too fast")

    def _apply(self, edit: Edit, version: int) -> None:
        for (kind, key), record in edit.writes.items():
            if record is None:
                self.state.drop(kind, key)
            else:
                self.state.put(record)
        self.state.version = version

    async def run(self) -> None:
        """Keep the State fresh, and the tables short, until cancelled."""
        trimmed_at = time.monotonic()
        while True:
            await asyncio.sleep(POLL_S)
            try:
                await self.refresh()
                if time.monotonic() - trimmed_at > _TRIM_S:
                    trimmed_at = time.monotonic()
                    await self.trim()
            except DatabaseError as error:
                log.warning("identity data is not refreshed: %s", error)

    async def trim(self) -> None:
        """Forget what no process needs any more. Raises DatabaseError."""
        now = self.clock()
        self.state.forget_revocations(now - _REVOCATIONS_US)
        await self.db.write(queries.trim, queries.Trim(now - _TOMBSTONES_US, now - _REVOCATIONS_US))


__all__ = ["STALE_S", "Directory", "Edit", "now_us"]
