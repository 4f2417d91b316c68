"""One open transaction on SQLite's writer thread, and what its errors mean.

Its coroutines never suspend, so the writer thread can drive a whole transaction function with one
`send`. A statement that failed spoils its transaction, as it does on PostgreSQL: the function may not
swallow the error and go on. Must not know threads, queues or loops.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Coroutine, Sequence
from typing import TypeVar

from kilonova.db.errors import BadParameter, Busy, DatabaseError, StorageFull, UniqueViolation
from kilonova.db.statement import Params, Row, Statement

T = TypeVar("T")

_UNIQUE = ("SQLITE_CONSTRAINT_UNIQUE", "SQLITE_CONSTRAINT_PRIMARYKEY", "SQLITE_CONSTRAINT_ROWID")
_FULL = (
    "SQLITE_FULL", "SQLITE_IOERR_WRITE", "SQLITE_IOERR_FSYNC", "SQLITE_IOERR_DIR_FSYNC", "SQLITE_IOERR_TRUNCATE",
    "SQLITE_IOERR_SHMSIZE", "SQLITE_IOERR_SHMMAP", "SQLITE_IOERR_SHMOPEN", "SQLITE_READONLY",
)  # fmt: skip
SENT = (sqlite3.Error, OverflowError, UnicodeEncodeError)
"""What sqlite3 raises from a statement: its own errors, an int over 64 bits, text that is not Unicode."""


def translate(error: BaseException) -> BaseException:
    """Return the executor's error for one of sqlite3's; anything else is returned as it is."""
    if isinstance(error, (OverflowError, UnicodeEncodeError)):
        return BadParameter(str(error))
    if not isinstance(error, sqlite3.Error) or isinstance(error, DatabaseError):
        return error
    code: str = getattr(error, "sqlite_errorname", None) or ""
    text = str(error)
    if code in _UNIQUE:
        return UniqueViolation(text)
    if code in _FULL:
        return StorageFull(f"the disk that holds the database is full or failing ({code})")
    if code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return Busy(text)
    if not code and isinstance(error, (sqlite3.ProgrammingError, sqlite3.InterfaceError)):
        return BadParameter(text)
    return DatabaseError(f"{text} ({code})" if code else text)


class SqliteTx:
    """`Tx` over the writer's connection; one object serves one transaction after the other."""

    dialect = "sqlite"
    __slots__ = ("_con", "changed", "failure")

    def __init__(self, con: sqlite3.Connection) -> None:
        self._con = con
        self.changed = False
        self.failure: BaseException | None = None

    def begin(self) -> None:
        """Forget the transaction before."""
        self.changed = False
        self.failure = None

    def _failed(self, error: BaseException, statement: Statement) -> BaseException:
        self.failure = translate(error)
        self.failure.add_note(statement.sql)
        return self.failure

    def _check(self) -> None:
        if self.failure is not None:
            raise DatabaseError("a statement of this transaction has failed: it cannot go on") from self.failure

    async def execute(self, statement: Statement, params: Params) -> int:
        self._check()
        try:
            return self._con.execute(statement.sql, params).rowcount
        except SENT as error:
            raise self._failed(error, statement) from error

    async def execute_many(self, statement: Statement, rows: Sequence[Params]) -> None:
        self._check()
        try:
            self._con.executemany(statement.sql, rows)
        except SENT as error:
            raise self._failed(error, statement) from error

    async def fetch(self, statement: Statement, params: Params) -> list[Row]:
        self._check()
        try:
            return self._con.execute(statement.sql, params).fetchall()
        except SENT as error:
            raise self._failed(error, statement) from error

    async def fetch_one(self, statement: Statement, params: Params) -> Row | None:
        self._check()
        try:
            row: Row | None = self._con.execute(statement.sql, params).fetchone()
        except SENT as error:
            raise self._failed(error, statement) from error
        return row

    async def insert_if_absent(self, statement: Statement, params: Params) -> bool:
        # A failed single INSERT undoes itself in SQLite (ABORT), so it needs no savepoint of its own.
        self._check()
        try:
            self._con.execute(statement.sql, params)
        except SENT as error:
            if isinstance(translate(error), UniqueViolation):
                return False
            raise self._failed(error, statement) from error
        return True


def drive(coroutine: Awaitable[T]) -> T:
    """Run a coroutine that never suspends; raise if it awaits anything but its transaction."""
    assert isinstance(coroutine, Coroutine)
    try:
        coroutine.send(None)
    except StopIteration as stop:
        value: T = stop.value
        return value
    coroutine.close()
    raise DatabaseError("a transaction awaited something else than its tx")
