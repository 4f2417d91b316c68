"""The interface of one database: transactions that may be run again, and reads.

A transaction is ``async def f(tx, args)`` that awaits `tx` and nothing else, so that SQLite can drive
it to its end on the writer thread and PostgreSQL can await it on a connection. It may be run again
after a conflict: it must not change anything but through `tx`. Decisions are conditional UPDATEs with
the matched-row count, never select-then-insert.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, TypeVar

from kilonova.db.statement import Params, Row, Statement

A = TypeVar("A")
T = TypeVar("T")


class Tx(Protocol):
    """One open transaction."""

    dialect: str
    """`sqlite`, `postgresql`, `mysql`."""
    changed: bool
    """Set by `changes.emit`: after the commit those who `watch` the database are called."""

    async def execute(self, statement: Statement, params: Params) -> int:
        """Run a write; the number of rows it matched."""

    async def execute_many(self, statement: Statement, rows: Sequence[Params]) -> None:
        """Run a write once per row of parameters."""

    async def fetch(self, statement: Statement, params: Params) -> list[Row]: ...

    async def fetch_one(self, statement: Statement, params: Params) -> Row | None: ...

    async def insert_if_absent(self, statement: Statement, params: Params) -> bool:
        """INSERT in a savepoint; False when the key is taken."""


class Database(Protocol):
    """One database: the global one, a cell's, or all of them in one."""

    name: str
    """`global`, `cell0`, `cell1`, ... ; databases that are one file share one Database object."""
    dialect: str

    async def open(self) -> None: ...

    async def close(self) -> None: ...

    def watch(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Have `callback` called on the loop after commits of this process that emitted changes.

        It must not block. Returns what ends the watch.
        """

    async def write(self, f: Callable[[Tx, A], Awaitable[T]], args: A) -> T:
        """Run `f(tx, args)` as one durable transaction; returns after the commit.

        Raises what `f` raises (rolled back), Busy, StorageFull, Unavailable, Closed; all of them mean
        that nothing was changed. CommitUnknown: it may or may not have happened (servers only).
        A statement that fails spoils its transaction: `f` may not catch the error and go on.
        """

    async def fetch(self, statement: Statement, params: Params) -> list[Row]:
        """A small read (at most some tens of rows) of what is committed."""

    async def fetch_one(self, statement: Statement, params: Params) -> Row | None: ...

    async def scan(self, statement: Statement, params: Params, fold: Callable[[list[Row]], T]) -> T:
        """A read of many rows away from the loop; `fold` runs where the rows arrive and must be pure."""


class Watchers:
    """Who is called after a commit that emitted changes."""

    def __init__(self) -> None:
        self._callbacks: dict[object, Callable[[], None]] = {}

    def add(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Add a callback; returns what removes it."""
        key = object()
        self._callbacks[key] = callback
        return lambda: self._callbacks.pop(key, None) and None

    def call(self) -> None:
        """Call them all."""
        for callback in tuple(self._callbacks.values()):
            callback()
