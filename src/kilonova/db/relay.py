"""The relay: on PostgreSQL, committed rows of `outbox` get their positions here.

Transactions commit in another order than they number their rows, so a reader of `outbox` could step
over one that is still open. One relay per database moves what is committed to `changes` under the next
positions, and advances the counter in the same transaction, on condition of its own lease. A relay that
was taken for dead changes 0 rows and stops. Every process may run one: all but one wait.

Lease: who sees the beat unchanged for `DEAD_S` of its own monotonic clock takes over, epoch + 1.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

from kilonova.db.database import Database, Tx
from kilonova.db.errors import DatabaseError
from kilonova.db.statement import Params, Row, Statement
from kilonova.log import get_logger

log = get_logger(__name__)

BEAT_S = 1.0
DEAD_S = 3.0
NAME = "changes"
_BATCH = 500

INSERT = Statement("INSERT INTO relays (name, position, owner, epoch, beat) VALUES (:name, 0, NULL, 0, 0)")
READ = Statement("SELECT owner, epoch, beat FROM relays WHERE name = :name")
TAKE = Statement(
    "UPDATE relays SET owner = :owner, epoch = epoch + 1, beat = beat + 1"
    " WHERE name = :name AND epoch = :epoch AND beat = :beat"
)
RELEASE = Statement("UPDATE relays SET owner = NULL WHERE name = :name AND owner = :owner AND epoch = :epoch")
BEAT = Statement("UPDATE relays SET beat = beat + 1 WHERE name = :name AND owner = :owner AND epoch = :epoch")
ADVANCE = Statement(
    "UPDATE relays SET position = :last"
    " WHERE name = :name AND owner = :owner AND epoch = :epoch AND position = :position"
)
POSITION = Statement("SELECT position FROM relays WHERE name = :name")
WAITING = Statement(
    "SELECT id, kind, subject, project_id, generation, payload, created_at FROM outbox ORDER BY id LIMIT :limit"
)
NUMBERED = Statement(
    "INSERT INTO changes (position, kind, subject, project_id, generation, payload, created_at)"
    " VALUES (:position, :kind, :subject, :project_id, :generation, :payload, :created_at)"
)
MOVED = Statement("DELETE FROM outbox WHERE id = :id")


class Deposed(Exception):
    """Another relay holds the lease."""


class Relay:
    """Moves one database's committed changes to their positions. Run `run()` in a task of your own."""

    def __init__(self, db: Database, incarnation: str, moved: Callable[[], None] | None = None) -> None:
        """`incarnation`: this process's uuid; `moved` is called on the loop after changes got positions."""
        self.db, self.incarnation = db, incarnation
        self.epoch = 0
        """Of our lease; 0 while another holds it."""
        self.positions = 0
        """How many changes this relay has moved."""
        self._moved = moved
        self._wake = asyncio.Event()
        self._seen: tuple[int, int] | None = None
        self._seen_at = 0.0

    def __repr__(self) -> str:
        return f"Relay({self.db.name!r}, epoch={self.epoch})"

    def wake(self) -> None:
        """Say that there may be something to move."""
        self._wake.set()

    async def run(self) -> None:
        """Relay until cancelled; gives the lease back then. Trouble with the database is waited out."""
        unwatch = self.db.watch(self.wake)
        try:
            while True:
                self._wake.clear()  # before the look: what is committed during it wakes us again
                try:
                    await self._turn()
                except Deposed:
                    log.warning("the relay of %s was taken over", self.db.name)
                    self.epoch = 0
                except DatabaseError as error:
                    log.warning("the relay of %s waits: %s", self.db.name, error)
                if not self.epoch:
                    await asyncio.sleep(BEAT_S)
                    continue
                with suppress(TimeoutError):
                    async with asyncio.timeout(BEAT_S):
                        await self._wake.wait()
        finally:
            unwatch()
            with suppress(DatabaseError):
                await self._give_back()

    async def _turn(self) -> None:
        if not self.epoch and not await self._take():
            return
        moved = await self.move()
        if not moved:
            await self._beat()
        while moved == _BATCH:
            moved = await self.move()

    async def _take(self) -> bool:
        row = await self.db.fetch_one(READ, {"name": NAME})
        if row is None:
            await self.db.write(_insert, None)
            row = await self.db.fetch_one(READ, {"name": NAME})
            if row is None:
                return False
        owner, epoch, beat = row
        now = time.monotonic()
        if self._seen != (epoch, beat):
            self._seen, self._seen_at = (epoch, beat), now
        if owner is not None and now - self._seen_at < DEAD_S:
            return False
        args: Params = {"name": NAME, "owner": self.incarnation, "epoch": epoch, "beat": beat}
        if not await self.db.write(_take, args):
            return False
        self.epoch = epoch + 1
        log.info("relaying the changes of %s, epoch %d", self.db.name, self.epoch)
        return True

    def _mine(self) -> dict[str, str | int]:
        return {"name": NAME, "owner": self.incarnation, "epoch": self.epoch}

    async def _beat(self) -> None:
        if not await self.db.write(_beat, self._mine()):
            raise Deposed

    async def _give_back(self) -> None:
        if self.epoch:
            await self.db.write(_release, self._mine())
            self.epoch = 0

    async def move(self) -> int:
        """Move one batch; returns how many rows. Raises Deposed when the lease is gone."""
        if await self.db.fetch_one(WAITING, {"limit": 1}) is None:
            return 0
        count = await self.db.write(_move, self._mine())
        self.positions += count
        if count and self._moved is not None:
            self._moved()
        return count


async def _insert(tx: Tx, _: None) -> None:
    await tx.insert_if_absent(INSERT, {"name": NAME})


async def _take(tx: Tx, args: Params) -> bool:
    return await tx.execute(TAKE, args) == 1


async def _beat(tx: Tx, args: Params) -> bool:
    return await tx.execute(BEAT, args) == 1


async def _release(tx: Tx, args: Params) -> None:
    await tx.execute(RELEASE, args)


async def _move(tx: Tx, mine: Params) -> int:
    # The beat locks the counter's row until the commit. What is read after it has no move in flight,
    # not even one of our own whose commit was lost on the way.
    if not await _beat(tx, mine):
        raise Deposed
    found = await tx.fetch_one(POSITION, {"name": NAME})
    rows = await tx.fetch(WAITING, {"limit": _BATCH})
    if found is None or not rows:
        return 0
    position = found[0]
    if await tx.execute(ADVANCE, {**mine, "position": position, "last": position + len(rows)}) != 1:
        raise Deposed
    numbered = [
        {
            "position": position + i, "kind": row[1], "subject": row[2], "project_id": row[3],
            "generation": row[4], "payload": row[5], "created_at": row[6],
        }
        for i, row in enumerate(in_order(rows), 1)
    ]  # fmt: skip
    await tx.execute_many(NUMBERED, numbered)
    await tx.execute_many(MOVED, [{"id": row[0]} for row in rows])
    tx.changed = True
    return len(rows)


def in_order(rows: list[Row]) -> list[Row]:
    """Return the rows in the order of their ids, each subject's in the order of its generations.

    Only a subject whose transaction emitted before it took its generation needs the second half.
    """
    places: dict[tuple[str, str], list[int]] = {}
    for i, row in enumerate(rows):
        places.setdefault((row[1], row[2]), []).append(i)
    ordered = list(rows)
    for indexes in places.values():
        if len(indexes) > 1:
            for i, row in zip(indexes, sorted((rows[i] for i in indexes), key=lambda r: int(r[4])), strict=True):
                ordered[i] = row
    return ordered
