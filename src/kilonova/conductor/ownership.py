"""Who owns operations: conductors' incarnations and beats (contracts: 1.12, 1.13). No wall clocks.

A conductor writes a beat a second from its loop. Whoever sees another's beat unchanged for 3 s of its own
monotonic clock ends that incarnation and takes its operations, epoch + 1. A conductor that could not
write its own beat for 2 s starts no effects. With a single process the lock on the cloud's folder proves
that every other incarnation is dead: all is taken at once and no beats are written.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from hashlib import blake2b

from kilonova.conductor.story import STORIES
from kilonova.db.database import Database, Tx
from kilonova.db.errors import DatabaseError
from kilonova.db.queries import journal as sql
from kilonova.log import get_logger

log = get_logger(__name__)

DEAD_AFTER_S = 3.0
SILENT_AFTER_S = 2.0
_GAP_S = 1.5
"""What counts at most between two looks; as a rule they are a second apart."""


class Ownership:
    """This incarnation's place among the owners of one database."""

    def __init__(
        self, database: Database, me: str, name: str, *, alone: bool, now_us: Callable[[], int],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self.database, self.me, self.name, self.alone = database, me, name, alone
        self._now, self._monotonic = now_us, monotonic
        self._seen: dict[str, tuple[int, float]] = {}
        """Incarnation -> its beat, and for how long we had looked when it last changed."""
        self._looked = 0.0
        """Seconds in which beats could be seen: time in which nobody could write or read them is nobody's death."""
        self._last_look: float | None = None
        self._last_beat = monotonic()
        self.ended = False
        """Somebody took us for dead: this process must start over as a new incarnation."""

    def may_act(self) -> bool:
        """Whether effects may start: our beat is young, or we are alone."""
        return self.alone or (not self.ended and self._monotonic() - self._last_beat < SILENT_AFTER_S)

    def rank(self, operation_id: str) -> int:
        """How many living conductors come before this one for an operation: each begins with a share of its own."""
        mine = _draw(operation_id, self.me)
        return sum(1 for other in self._seen if _draw(operation_id, other) < mine)

    async def start(self) -> None:
        """Announce this incarnation; alone, take everything that is open."""
        await self.database.write(_insert_owner, (self.me, self.name, self._now()))
        self._last_beat = self._monotonic()
        if self.alone:
            await self._adopt_all()

    async def beat(self) -> list[str]:
        """Write our beat, judge the others; the operations taken over from the dead."""
        if self.alone:
            return []
        started = self._monotonic()
        try:
            alive = await self.database.write(_beat, self.me)
        except DatabaseError as error:
            log.warning("beat not written: %s", error)
            return []
        if not alive:
            if not self.ended:
                log.error("another conductor took this incarnation for dead; it starts over")
            self.ended = True
            return []
        self._last_beat = started
        return await self._judge()

    async def _judge(self) -> list[str]:
        taken: list[str] = []
        rows = await self.database.fetch(sql.OWNERS, {})
        now = self._monotonic()
        if self._last_look is not None:
            self._looked += min(now - self._last_look, _GAP_S)
        self._last_look = now
        living = {row[0] for row in rows}
        for incarnation, beat in rows:
            if incarnation == self.me:
                continue
            seen = self._seen.get(incarnation)
            if seen is None or seen[0] != beat:
                self._seen[incarnation] = (beat, self._looked)
            elif self._looked - seen[1] >= DEAD_AFTER_S and await self.database.write(_end_owner, (incarnation, beat)):
                log.warning("conductor incarnation %s is dead", incarnation)
                living.discard(incarnation)
        for gone in self._seen.keys() - living:
            del self._seen[gone]
        for (owner,) in await self.database.fetch(sql.OWNERS_OF_OPEN, {}):
            taken += await self.database.write(_adopt, (self.me, owner, self._now()))
        return taken

    async def _adopt_all(self) -> None:
        rows = await self.database.fetch(sql.ABANDONED, {"me": self.me})
        for owner in {row[1] for row in rows}:
            await self.database.write(_adopt, (self.me, owner, self._now()))

    async def leave(self) -> None:
        """A clean end: others need not wait for our silence."""
        try:
            await self.database.write(_leave, self.me)
        except DatabaseError as error:
            log.warning("could not say goodbye: %s", error)


def _draw(operation_id: str, incarnation: str) -> bytes:
    return blake2b(f"{operation_id} {incarnation}".encode(), digest_size=8).digest()


async def _insert_owner(tx: Tx, args: tuple[str, str, int]) -> None:
    await tx.execute(sql.INSERT_OWNER, {"incarnation": args[0], "name": args[1], "now": args[2]})


async def _beat(tx: Tx, me: str) -> bool:
    return bool(await tx.execute(sql.BEAT, {"incarnation": me}))


async def _end_owner(tx: Tx, args: tuple[str, int]) -> bool:
    return bool(await tx.execute(sql.END_OWNER, {"incarnation": args[0], "beat": args[1]}))


async def _leave(tx: Tx, me: str) -> None:
    await tx.execute(sql.LEAVE, {"incarnation": me})


async def _adopt(tx: Tx, args: tuple[str, str, int]) -> list[str]:
    """Take the open operations of a dead owner that we have the stories of; a rival that was faster leaves us none."""
    me, owner, now = args
    taken = []
    for operation_id, whose, epoch, story, version in await tx.fetch(sql.ABANDONED, {"me": me}):
        facts = {"me": me, "id": operation_id, "owner": owner, "epoch": epoch, "now": now}
        if whose == owner and (story, version) in STORIES and await tx.execute(sql.ADOPT, facts):
            taken.append(operation_id)
    return taken
