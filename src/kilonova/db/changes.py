"""What changed, in one order per database (contracts: order of changes).

A transaction that changes what others watch calls `emit`, after the conditional UPDATE that made the
generation: so the order of emission within a subject is the order of its generations. SQLite commits
one by one and numbers at insert; on PostgreSQL `db.relay` gives positions after the commit. Positions
have no gaps, start at 1 and never appear out of order, so whoever knows a position has missed nothing.

Knows nothing of what the kinds and payloads mean.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import NamedTuple

from msgspec import Struct

from kilonova.db.database import Database, Tx
from kilonova.db.errors import DatabaseError
from kilonova.db.statement import Params, Row, Statement
from kilonova.log import get_logger

log = get_logger(__name__)

KEPT_US = 24 * 3600 * 1_000_000
"""How long changes are kept, in microseconds."""
_WINDOW = 1000
_TRIM = 1000

_INTO = "(kind, subject, project_id, generation, payload, created_at)"
_VALUES = "VALUES (:kind, :subject, :project_id, :generation, :payload, :now)"
INSERT_CHANGE = Statement(f"INSERT INTO changes {_INTO} {_VALUES}")
INSERT_OUTBOX = Statement(f"INSERT INTO outbox {_INTO} {_VALUES}")

_COLUMNS = "position, kind, subject, project_id, generation, payload, created_at"
AFTER = Statement(
    f"SELECT {_COLUMNS} FROM changes WHERE position > :after AND position <= :upto"
    " ORDER BY position LIMIT :limit"
)
AFTER_OF_PROJECT = Statement(
    f"SELECT {_COLUMNS} FROM changes WHERE position > :after AND position <= :upto"
    " AND project_id = :project_id ORDER BY position LIMIT :limit"
)
BOUNDS = Statement("SELECT (SELECT MIN(position) FROM changes), (SELECT MAX(position) FROM changes)")
OLDEST = Statement("SELECT position, created_at FROM changes ORDER BY position LIMIT :limit")
TRIM = Statement("DELETE FROM changes WHERE position <= :upto")
BORN = Statement("SELECT born FROM schema_version WHERE collection = 'journal'")


class Change(Struct, frozen=True, gc=False):
    """One change at its place."""

    position: int
    kind: str
    """`server`, `provider`, ... : what the subject is."""
    subject: str
    project_id: str
    """Whose it is; "" for nobody's."""
    generation: int
    payload: str
    """JSON; the subject's absolute state, or as much as its watchers need."""
    created_at: int
    """Microseconds UTC, when it was emitted."""


class Reset(Exception):
    """The position is older than what is kept, or not of this database: read the state anew."""


class Bounds(NamedTuple):
    """What of the changes is kept: positions `first` to `last`; (1, 0) when there were none."""

    first: int
    last: int


class Batch(NamedTuple):
    """Some changes and how far they reach: everything up to `position` was seen."""

    changes: list[Change]
    position: int
    more: bool
    """Whether there may be later changes already."""


async def emit(
    tx: Tx, kind: str, subject: str, project_id: str, generation: int, payload: str | bytes, now: int
) -> None:
    """Announce a change as part of `tx`.

    `generation` is the subject's after the change; `payload` JSON of at most 64 kB without secrets;
    `now` microseconds UTC.
    """
    params: Params = {
        "kind": kind,
        "subject": subject,
        "project_id": project_id,
        "generation": generation,
        "payload": payload if isinstance(payload, str) else payload.decode(),
        "now": now,
    }
    await tx.execute(INSERT_CHANGE if tx.dialect == "sqlite" else INSERT_OUTBOX, params)
    tx.changed = True


class ChangeReader:
    """Reads one database's changes by position."""

    def __init__(self, db: Database) -> None:
        self.db = db

    def __repr__(self) -> str:
        return f"ChangeReader({self.db!r})"

    async def bounds(self) -> Bounds:
        """Return the first and last position kept."""
        row = await self.db.fetch_one(BOUNDS, {})
        if row is None or row[0] is None:
            return Bounds(1, 0)
        return Bounds(row[0], row[1])

    async def position(self) -> int:
        """Return the position of the newest change, 0 when there was none."""
        return (await self.bounds()).last

    async def after(self, position: int, limit: int = 500, project_id: str | None = None) -> Batch:
        """Return at most `limit` changes after `position`, oldest first.

        With `project_id` only that project's, among the next 1,000: the batch may be empty and yet reach
        further, so go on from its `position` while it has `more`. Raises Reset when changes after
        `position` are gone.
        """
        if project_id is not None:
            return await self._of_project(position, limit, project_id)
        rows = await self.db.fetch(AFTER, {"after": position, "upto": position + limit, "limit": limit})
        if rows:
            if rows[0][0] != position + 1 or rows[-1][0] != position + len(rows):
                raise self._reset(position)
            return Batch([_change(row) for row in rows], rows[-1][0], len(rows) == limit)
        first, last = await self.bounds()
        if position + 1 < first or position > last:
            raise self._reset(position)
        return Batch([], position, False)

    async def _of_project(self, position: int, limit: int, project_id: str) -> Batch:
        last = (await self.bounds()).last
        upto = min(position + _WINDOW, last)
        params: Params = {"after": position, "upto": upto, "limit": limit, "project_id": project_id}
        rows = await self.db.fetch(AFTER_OF_PROJECT, params)
        # Read after the rows: what is kept now was there then.
        if position + 1 < (await self.bounds()).first or position > last:
            raise self._reset(position)
        reached = rows[-1][0] if len(rows) == limit else upto
        return Batch([_change(row) for row in rows], reached, reached < last)

    def _reset(self, position: int) -> Reset:
        return Reset(f"changes after {position} of {self.db.name} are not kept")

    async def born(self) -> str:
        """Return the database's birth mark; "" if its tables were made without one."""
        try:
            row = await self.db.fetch_one(BORN, {})
        except DatabaseError:
            return ""
        return row[0] if row else ""


async def trim(db: Database, now: int, kept_us: int = KEPT_US) -> int:
    """Remove changes older than `kept_us`, oldest first, never the newest; returns how many.

    The newest stays so that positions go on where they were.
    """
    removed = 0
    while True:
        rows = await db.fetch(OLDEST, {"limit": _TRIM + 1})
        upto = 0
        for position, created_at in rows[:-1]:
            if created_at >= now - kept_us:
                break
            upto = position
            removed += 1
        if not upto:
            return removed
        await db.write(_trim, upto)
        if upto != rows[:-1][-1][0] or len(rows) <= _TRIM:
            return removed


async def keep_trimmed(databases: Sequence[Database], every_s: float = 600.0) -> None:
    """Trim the databases now and then until cancelled."""
    while True:
        for db in databases:
            try:
                removed = await trim(db, time.time_ns() // 1000)
                log.debug("removed %d old changes of %s", removed, db.name)
            except DatabaseError as error:
                log.warning("old changes of %s stay: %s", db.name, error)
        await asyncio.sleep(every_s)


async def _trim(tx: Tx, upto: int) -> None:
    await tx.execute(TRIM, {"upto": upto})


def _change(row: Row) -> Change:
    return Change(*row)
