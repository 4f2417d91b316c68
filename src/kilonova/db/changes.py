"""What changed, in one order per database (contracts: order of changes).

A transaction that changes what others watch calls `emit`, after the conditional UPDATE that made the
generation: so the order of emission within a subject is the order of its generations. SQLite commits
one by one and numbers at insert; on PostgreSQL `db.relay` gives positions after the commit. Positions
have no gaps, start at 1 and never appear out of order, so whoever knows a position has missed nothing.

Knows nothing of what the kinds and payloads mean.
"""

from __future__ import annotations

from typing import NamedTuple

from msgspec import Struct

from kilonova.db.database import Database, Tx
from kilonova.db.errors import DatabaseError
from kilonova.db.statement import Params, Row, Statement

KEPT_US = 24 * 3600 * 1_000_000
"""How long changes are kept, in microseconds."""
_WINDOW = 1000
_TRIM = 1000

_INTO = "(kind, subject, project_id, generation, payload, created_at)"
_VALUES = "VALUES (:kind, :subject, :project_id, :generation, :payload, :now)"
INSERT_CHANGE = Statement(f"INSERT INTO changes {_INTO} {_VALUES}")  # noqa: S608  constants
INSERT_OUTBOX = Statement(f"INSERT INTO outbox {_INTO} {_VALUES}")  # noqa: S608  constants

_COLUMNS = "position, kind, subject, project_id, generation, payload, created_at"
AFTER = Statement(
    f"SELECT {_COLUMNS} FROM changes WHERE position > :after AND position <= :upto"  # noqa: S608  constants
    " ORDER BY position LIMIT :limit"
)
AFTER_OF_PROJECT = Statement(
    f"SELECT {_COLUMNS} FROM changes WHERE position > :after AND position <= :upto"  # noqa: S608  constants
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
    """Whether there are later changes already."""


async def emit(
    tx: Tx, kind: str, subject: str, project_id: str, generation: int, payload: str | bytes, now: int
) -> None:
    """Announce a change as part of `tx`.

    `generation` is the subject's after the change; `payload` JSON of at most 64 kB without secrets;
    `now` microseconds UTC.
    """
    params = {
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
        window = limit if project_id is None else _WINDOW
        params: Params = {"after": position, "upto": position + window, "limit": limit}
        if project_id is None:
            rows = await self.db.fetch(AFTER, params)
        else:
            rows = await self.db.fetch(AFTER_OF_PROJECT, {**params, "project_id": project_id})
        # Bounds are read after the rows: what was kept then had not been removed before.
        first, last = await self.bounds()
        if position + 1 < first or position > last:
            raise Reset(f"changes after {position} of {self.db.name} are not kept")
        changes = [_change(row) for row in rows]
        full = len(changes) == limit
        reached = changes[-1].position if full else min(position + window, last)
        if project_id is None:
            reached = changes[-1].position if changes else position
        return Batch(changes, reached, reached < last)

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


async def _trim(tx: Tx, upto: int) -> None:
    await tx.execute(TRIM, {"upto": upto})


def _change(row: Row) -> Change:
    return Change(*row)
