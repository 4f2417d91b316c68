"""One open transaction on a PostgreSQL connection, and what its errors mean.

A transaction function may await its `tx` and nothing else, as on SQLite: `driven` refuses anything
else, because a slow neighbour would otherwise hold locks. Must not know pools or retries.
"""

from __future__ import annotations

import re
import types
from collections.abc import Coroutine, Generator, Sequence
from typing import Any, NamedTuple, TypeVar

import asyncpg

from kilonova.db.errors import BadParameter, Busy, DatabaseError, StorageFull, Unavailable, UniqueViolation
from kilonova.db.statement import Params, Row, Statement

T = TypeVar("T")

SENT = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, KeyError)
"""What a statement may raise: the server's errors, the driver's, the socket's (a timeout is an OSError),
and a missing parameter's."""

_CONFLICT = {"40001", "40P01", "55P03"}
_GONE = {"57P01", "57P02", "57P03", "57P05", "25P03", "25006", "53300"}
_ARGUMENT = re.compile(r"query argument \$(\d+)")


class Failure(NamedTuple):
    """What a driver's error means: the executor's error, and whether the transaction is worth another try."""

    error: DatabaseError
    again: bool
    lost: bool = False
    """Whether the connection is gone, so that the fate of what was sent is unknown."""


def translate(error: BaseException, names: Sequence[str] = ()) -> Failure:
    """Tell what an error of `SENT` means; `names` are the statement's parameters in order.

    A value is never repeated in the text: it may be a secret.
    """
    if isinstance(error, KeyError):
        return Failure(BadParameter(f"no value for parameter :{error.args[0]}"), False)
    if isinstance(error, (asyncpg.DataError, ValueError)) and "argument" in str(error):  # the driver refused to bind
        return Failure(_bad_parameter(error, names), False)
    if isinstance(error, asyncpg.PostgresError):
        return _of_server(error)
    if isinstance(error, TimeoutError):
        return Failure(Busy("the database did not answer in time"), False, lost=True)
    if isinstance(error, OSError):
        return Failure(Unavailable(f"no connection to the database: {error}"), True, lost=True)
    if isinstance(error, asyncpg.InternalClientError):  # the driver lost its place on a connection that broke
        return Failure(Unavailable(f"the connection broke: {error}"), True, lost=True)
    if isinstance(error, asyncpg.InterfaceError) and ("closed" in str(error) or "released" in str(error)):
        return Failure(Unavailable(str(error)), True, lost=True)
    return Failure(DatabaseError(f"{type(error).__name__}: {error}"), False)


def _of_server(error: asyncpg.PostgresError) -> Failure:
    code: str = error.sqlstate or ""
    text = f"{error} ({code})"
    if code == "23505":
        return Failure(UniqueViolation(text), False)
    if isinstance(error, asyncpg.DataError):  # class 22: too long, a NUL in text, out of range
        return Failure(BadParameter(text), False)
    if code in _CONFLICT or isinstance(error, asyncpg.InvalidCachedStatementError):
        return Failure(Busy(text), True)
    if code == "57014":  # statement_timeout
        return Failure(Busy(text), False)
    if code.startswith("08") or code in _GONE:
        return Failure(Unavailable(text), True, lost=True)
    if code in ("53100", "53000"):
        return Failure(StorageFull("the disk of the database server is full"), False)
    return Failure(DatabaseError(text), False)


def _bad_parameter(error: BaseException, names: Sequence[str]) -> BadParameter:
    text = str(error)
    reason = text.rpartition("(")[2].rstrip(")")
    found = _ARGUMENT.search(text)
    if found and int(found.group(1)) <= len(names):
        return BadParameter(f"parameter :{names[int(found.group(1)) - 1]}: {reason}")
    return BadParameter(f"a parameter does not fit its column: {reason}")


class PostgresTx:
    """`Tx` over one connection."""

    dialect = "postgresql"
    __slots__ = ("_con", "calling", "changed", "failure", "wrote")

    def __init__(self, con: Any) -> None:
        self._con = con
        self.changed = False
        self.wrote = False
        """Whether a commit of it can have an effect."""
        self.failure: Failure | None = None
        self.calling = False

    async def _call(self, statement: Statement, method: Any, *args: Any) -> Any:
        if self.failure is not None:
            raise DatabaseError("a statement of this transaction has failed: it cannot go on") from self.failure.error
        self.calling = True
        try:
            return await method(statement.numbered()[0], *args)
        except SENT as error:
            raise self._failed(error, statement) from error
        finally:
            self.calling = False

    def _failed(self, error: BaseException, statement: Statement) -> DatabaseError:
        self.failure = translate(error, statement.numbered()[1])
        self.failure.error.add_note(statement.sql)
        return self.failure.error

    def _bind(self, statement: Statement, params: Params) -> list[Any]:
        try:
            return [params[name] for name in statement.numbered()[1]]
        except KeyError as error:
            raise self._failed(error, statement) from error

    async def execute(self, statement: Statement, params: Params) -> int:
        self.wrote = True
        return matched(await self._call(statement, self._con.execute, *self._bind(statement, params)))

    async def execute_many(self, statement: Statement, rows: Sequence[Params]) -> None:
        self.wrote = True
        await self._call(statement, self._con.executemany, [self._bind(statement, row) for row in rows])

    async def fetch(self, statement: Statement, params: Params) -> list[Row]:
        return [tuple(row) for row in await self._call(statement, self._con.fetch, *self._bind(statement, params))]

    async def fetch_one(self, statement: Statement, params: Params) -> Row | None:
        row = await self._call(statement, self._con.fetchrow, *self._bind(statement, params))
        return None if row is None else tuple(row)

    async def insert_if_absent(self, statement: Statement, params: Params) -> bool:
        self.wrote = True
        values = self._bind(statement, params)
        await self._call(_SAVEPOINT, self._con.execute)
        try:
            await self._call(statement, self._con.execute, *values)
        except UniqueViolation:
            self.failure = None
            await self._call(_ROLLBACK_TO, self._con.execute)
            return False
        await self._call(_RELEASE, self._con.execute)
        return True


_SAVEPOINT = Statement("SAVEPOINT absent")
_ROLLBACK_TO = Statement("ROLLBACK TO SAVEPOINT absent; RELEASE SAVEPOINT absent")
_RELEASE = Statement("RELEASE SAVEPOINT absent")


def matched(status: str) -> int:
    """Return the count of a command's status: ``UPDATE 3`` is 3, ``INSERT 0 1`` is 1."""
    count = status.rpartition(" ")[2]
    return int(count) if count.isdigit() else 0


@types.coroutine
def driven(coroutine: Coroutine[Any, Any, T], tx: PostgresTx) -> Generator[Any, Any, T]:
    """Await a transaction function's coroutine; DatabaseError when it awaits anything but `tx`."""
    value: Any = None
    error: BaseException | None = None
    while True:
        try:
            waits = coroutine.send(value) if error is None else coroutine.throw(error)
        except StopIteration as stop:
            result: T = stop.value
            return result
        if not tx.calling:
            coroutine.close()
            raise DatabaseError("a transaction awaited something else than its tx")
        value, error = None, None
        try:
            value = yield waits
        except BaseException as thrown:
            error = thrown
