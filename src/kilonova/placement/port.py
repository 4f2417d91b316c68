"""What the core sees of Placement: the embedded one, or a real service over HTTP.

The core is written for the weaker of the two: claims are at least once and idempotent by consumer. Where
`writes` is there, Placement's tables are in the global database and a claim may be a write step of
an operation in it, which makes it exactly once and saves a commit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from kilonova.db.database import Database, Tx
from kilonova.db.queries import placement as sql
from kilonova.model.placement import Claim, Claimed, Conflict
from kilonova.model.scheduling import Request
from kilonova.placement import claims

Allocations = dict[str, dict[str, int]]
"""Provider -> resource class -> amount."""


class PlacementUnavailable(Exception):
    """Placement did not answer, or not sensibly: whether the claim holds is unknown. Ask again with the same claim."""


class PlacementWrites(Protocol):
    """Claims as functions of a transaction of the global database."""

    async def claim(self, tx: Tx, wanted: Sequence[Claim]) -> Claimed | Conflict: ...

    async def release(self, tx: Tx, consumer: str, now: int) -> None: ...

    async def move(self, tx: Tx, wanted: Claim, holder: str) -> Claimed | Conflict: ...


class PlacementPort(Protocol):
    """Raises PlacementUnavailable from every method."""

    writes: PlacementWrites | None

    async def candidates(self, request: Request, limit: int = 1000) -> tuple[str, ...] | None:
        """Providers that could take one server of the request; None: the scheduler's columns know it all."""

    async def claim(self, wanted: Sequence[Claim]) -> Claimed | Conflict:
        """All or none; the same claims again answer alike."""

    async def release(self, consumer: str, now: int) -> None:
        """Give back all that a consumer holds; nothing held is success."""

    async def move(self, wanted: Claim, holder: str) -> Claimed | Conflict:
        """Hand the consumer's present allocation to `holder` and claim the destination."""

    async def held(self, consumer: str) -> Allocations:
        """What a consumer holds; empty for an unknown one."""


class EmbeddedWrites:
    """`PlacementWrites` on Placement's own tables."""

    async def claim(self, tx: Tx, wanted: Sequence[Claim]) -> Claimed | Conflict:
        return await claims.claim_many(tx, wanted)

    async def release(self, tx: Tx, consumer: str, now: int) -> None:
        await claims.release(tx, consumer, now)

    async def move(self, tx: Tx, wanted: Claim, holder: str) -> Claimed | Conflict:
        return await claims.move(tx, wanted, holder)


class EmbeddedPlacement:
    """`PlacementPort` on the global database."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self.writes: PlacementWrites | None = EmbeddedWrites()

    def __repr__(self) -> str:
        return f"EmbeddedPlacement({self._db!r})"

    async def candidates(self, request: Request, limit: int = 1000) -> tuple[str, ...] | None:
        return None

    async def claim(self, wanted: Sequence[Claim]) -> Claimed | Conflict:
        return await self._db.write(claims.claim_many, wanted)

    async def release(self, consumer: str, now: int) -> None:
        async def work(tx: Tx, _: None) -> None:
            await claims.release(tx, consumer, now)

        await self._db.write(work, None)

    async def move(self, wanted: Claim, holder: str) -> Claimed | Conflict:
        async def work(tx: Tx, claim: Claim) -> Claimed | Conflict:
            return await claims.move(tx, claim, holder)

        return await self._db.write(work, wanted)

    async def held(self, consumer: str) -> Allocations:
        return sql.fold_allocations(await self._db.fetch(sql.ALLOCATIONS, {"consumer": consumer}))
