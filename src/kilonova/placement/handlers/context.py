"""What every handler gets beside its request."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from kilonova.db.database import Database, Tx
from kilonova.db.queries import placement as claims_sql
from kilonova.db.queries import placement_api as sql
from kilonova.db.statement import Row
from kilonova.http.errors import BadRequest
from kilonova.http.message import Request
from kilonova.placement import standard
from kilonova.placement.announce import announce
from kilonova.placement.wire import no_provider, stale

T = TypeVar("T")


class Context:
    """The database, the clock, and what several nouns need."""

    def __init__(self, db: Database, now: Callable[[], int] = lambda: time.time_ns() // 1000) -> None:
        self.db, self.now = db, now

    async def write(self, work: Callable[[Tx], Awaitable[T]]) -> T:
        """Run `work(tx)` as one transaction; what it raises undoes it."""

        async def run(tx: Tx, _: None) -> T:
            return await work(tx)

        return await self.db.write(run, None)

    async def provider(self, uuid: str) -> Row:
        """(uuid, name, parent, root, generation, updated_at), or NotFound."""
        row = await self.db.fetch_one(sql.PROVIDER, {"uuid": uuid.lower()})
        if row is None:
            raise no_provider(uuid)
        return row

    async def resource_classes(self) -> tuple[str, ...]:
        """Standard ones, then custom ones."""
        rows = await self.db.fetch(sql.CUSTOM_CLASSES, {})
        return standard.resource_classes() + tuple(row[0] for row in rows)

    async def check_classes(self, names: set[str]) -> None:
        """BadRequest when one of the resource classes does not exist."""
        for name in sorted(names - set(standard.resource_classes())):
            if await self.db.fetch_one(sql.CUSTOM_CLASS, {"name": name}) is None:
                raise BadRequest(f"No such resource class {name}")

    async def check_traits(self, names: set[str]) -> None:
        """BadRequest when one of the traits does not exist."""
        missing = [
            name
            for name in sorted(names - standard.traits())
            if await self.db.fetch_one(sql.CUSTOM_TRAIT, {"name": name}) is None
        ]
        if missing:
            raise BadRequest(f"No such trait(s): {', '.join(missing)}.")


Handler = Callable[[Request, Context], Awaitable[Any]]


async def lock(tx: Tx, uuid: str, generation: int | None, now: int) -> int:
    """Raise a provider's generation, from `generation` when one is given; the new one. NotFound, Conflict."""
    if generation is None:
        if not await claims_sql.lock_provider(tx, uuid, 0, now):
            raise no_provider(uuid)
    elif not await sql.raise_generation(tx, uuid, generation, now):
        if await sql.provider(tx, uuid) is None:
            raise no_provider(uuid)
        raise stale()
    row = await sql.provider(tx, uuid)
    assert row is not None
    return int(row[4])


async def tell(tx: Tx, uuid: str, now: int) -> None:
    """Announce a provider's new state; it says nothing about claims under way."""
    states = await claims_sql.states(tx, (uuid,))
    for state in states.values():
        state = type(state)(state.uuid, state.generation, state.consumers, state.usage, ())
        await announce(tx, (state,), now)
