"""PostgreSQL: a pool of connections, transactions run again after conflicts.

READ COMMITTED, set at connect with the time limits: a lock 2 s, a statement and a transaction 5 s. A
lost connection before COMMIT means nothing happened, and the function runs again on another one; lost
while committing means nobody knows, and the caller is told so (CommitUnknown). Values are bound by the
column's type: an int for a text column is BadParameter here, though SQLite takes it.

Imported only when a PostgreSQL URL is configured.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, cast

import asyncpg

from kilonova.db.database import Tx, Watchers
from kilonova.db.errors import Busy, Closed, CommitUnknown, DatabaseError, Unavailable
from kilonova.db.postgres_tx import SENT, Failure, PostgresTx, driven, translate
from kilonova.db.statement import Params, Row, Statement
from kilonova.db.url import locate
from kilonova.log import get_logger

A = TypeVar("A")
T = TypeVar("T")
log = get_logger(__name__)

_TRIES = 5
_CONNECTIONS = 8
_TRANSACTION_S = 5.0
_ANSWER_S = 8.0
_CHUNK = 1000
_FIRST_PAUSE_S = 0.01

_SETTINGS = {
    "default_transaction_isolation": "read committed",
    "lock_timeout": "2000",
    "statement_timeout": "5000",
    "idle_in_transaction_session_timeout": "5000",
    "client_encoding": "UTF8",
    "jit": "off",
    "application_name": "kilonova",
}

# A client that stands still between Parse and Bind is `active` for the server: none of its timeouts ends that.
_END_STALLED = """
    SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND usename = current_user AND application_name = 'kilonova'
      AND state = 'active' AND wait_event = 'ClientRead' AND xact_start IS NOT NULL
      AND state_change < now() - interval '1 second' * $1::float8
"""


class PostgresDatabase:
    """`Database` over one PostgreSQL database."""

    dialect = "postgresql"

    def __init__(self, url: str, name: str = "global", connections: int = _CONNECTIONS) -> None:
        """`connections`: at most this many at a time; they come with demand and go when idle for 5 minutes."""
        self.location, self.name, self.connections = locate(url), name, connections
        self.commits = 0
        self.retries = 0
        self._pool: Any = None
        self._watchers = Watchers()
        self._folder = ThreadPoolExecutor(1, thread_name_prefix=f"db-read-{name}")

    def __repr__(self) -> str:
        return f"PostgresDatabase({self.name!r}, {str(self.location)!r})"

    async def open(self) -> None:
        """Connect once, to find mistakes early. Raises Unavailable, DatabaseError."""
        pool = asyncpg.create_pool(
            self.location.dsn,
            min_size=0, max_size=self.connections, reset=_reset, timeout=5, command_timeout=_ANSWER_S,
            server_settings=_SETTINGS, statement_cache_size=512, max_cached_statement_lifetime=0,
        )  # fmt: skip
        try:
            self._pool = await pool
            encoding = await self._pool.fetchval("SHOW server_encoding")
        except SENT as error:
            self._pool = None
            pool.terminate()
            raise Unavailable(f"{self.location}: {translate(error).error}") from error
        if encoding != "UTF8":
            await self.close()
            raise DatabaseError(f"{self.location}: the encoding is {encoding}; it must be UTF8")

    async def close(self) -> None:
        """Wait a little for what runs, then close; later calls raise Closed."""
        pool, self._pool = self._pool, None
        if pool is not None:
            try:
                await asyncio.wait_for(pool.close(), _TRANSACTION_S)
            except TimeoutError:
                pool.terminate()
        self._folder.shutdown(wait=True)

    async def end_stalled(self, after_s: float = _TRANSACTION_S) -> int:
        """End sessions of this program that hold a transaction and have stood still for `after_s`; how many.

        Their process hangs or is stopped; when it goes on it finds the connection gone. Raises as `fetch`.
        """

        async def once(con: Any) -> list[Any]:
            try:
                return list(await con.fetch(_END_STALLED, after_s))
            except SENT as error:
                raise _Failed(translate(error)) from error

        ended = await self._with_connection(once)
        if ended:
            log.warning("ended %d sessions on database %s that stood still in a transaction", len(ended), self.name)
        return len(ended)

    def watch(self, callback: Callable[[], None]) -> Callable[[], None]:
        return self._watchers.add(callback)

    async def write(self, f: Callable[[Tx, A], Awaitable[T]], args: A) -> T:
        async def once(con: Any) -> T:
            return await self._transaction(con, f, args)

        return await self._with_connection(once)

    async def fetch(self, statement: Statement, params: Params) -> list[Row]:
        return await self._with_connection(lambda con: _read(PostgresTx(con), PostgresTx.fetch, statement, params))

    async def fetch_one(self, statement: Statement, params: Params) -> Row | None:
        return await self._with_connection(lambda con: _read(PostgresTx(con), PostgresTx.fetch_one, statement, params))

    async def scan(self, statement: Statement, params: Params, fold: Callable[[list[Row]], T]) -> T:
        """Rows come in portions, so that the loop is free between them; `fold` runs on a thread."""
        sql, names = statement.numbered()

        async def once(con: Any) -> list[Row]:
            rows: list[Row] = []
            try:
                async with con.transaction(readonly=True):
                    cursor = await con.cursor(sql, *[params[name] for name in names])
                    while portion := await cursor.fetch(_CHUNK):
                        rows.extend(map(tuple, portion))
            except SENT as error:
                raise _Failed(translate(error, names), statement) from error
            return rows

        rows = await self._with_connection(once)
        return await asyncio.get_running_loop().run_in_executor(self._folder, fold, rows)

    # one try, and the tries

    async def _with_connection(self, once: Callable[[Any], Awaitable[T]]) -> T:
        """Run `once` on a connection, again after a conflict or a lost connection."""
        pause = _FIRST_PAUSE_S
        for attempt in range(1, _TRIES + 1):
            if self._pool is None:
                raise Closed(f"database {self.name} is closed")
            try:
                async with self._connection() as con:
                    return await once(con)
            except _Failed as failed:
                if not failed.failure.again or attempt == _TRIES:
                    raise failed.failure.error from failed.__cause__
                log.debug("database %s, try %d: %s", self.name, attempt, failed.failure.error)
            self.retries += 1
            await asyncio.sleep(random.uniform(0.5, 1.5) * pause)
            pause *= 3
        raise AssertionError("unreachable")

    @contextlib.asynccontextmanager
    async def _connection(self) -> Any:
        pool = self._pool
        try:
            con = await pool.acquire(timeout=_TRANSACTION_S)
        except TimeoutError as error:
            kind = Busy if pool.get_size() >= self.connections else Unavailable
            raise _Failed(Failure(kind(f"no connection to database {self.name} in time"), False)) from error
        except SENT as error:
            if self._pool is None:
                raise Closed(f"database {self.name} is closed") from error
            raise _Failed(translate(error)) from error
        try:
            yield con
        except _Failed as failed:
            if failed.failure.lost:
                with contextlib.suppress(*SENT):
                    con.terminate()
            raise
        finally:
            with contextlib.suppress(*SENT):  # a connection that broke is dropped by the pool
                await pool.release(con, timeout=_TRANSACTION_S)

    async def _transaction(self, con: Any, f: Callable[[Tx, A], Awaitable[T]], args: A) -> T:
        tx = PostgresTx(con)
        try:
            await con.execute("BEGIN")
        except SENT as error:
            raise _Failed(translate(error)) from error
        try:
            async with asyncio.timeout(_TRANSACTION_S):
                value = await driven(cast("Coroutine[Any, Any, T]", f(tx, args)), tx)
        except BaseException as error:
            await _roll_back(con)
            if isinstance(error, asyncio.CancelledError):
                raise
            if tx.failure is not None:
                raise _Failed(tx.failure) from error
            if isinstance(error, TimeoutError):
                raise _Failed(Failure(Busy(f"a transaction took over {_TRANSACTION_S:g} s"), False)) from error
            raise
        if tx.failure is not None:  # the function swallowed it
            await _roll_back(con)
            raise _Failed(tx.failure)
        await self._commit(con, tx)
        self.commits += 1
        if tx.changed:
            self._watchers.call()
        return value

    async def _commit(self, con: Any, tx: PostgresTx) -> None:
        try:
            status = await con.execute("COMMIT")
        except SENT as error:
            failure = translate(error)
            if failure.lost and tx.wrote:
                unknown = CommitUnknown(f"the connection broke during COMMIT: {failure.error}")
                failure = Failure(unknown, False, lost=True)
            raise _Failed(failure) from error
        if status != "COMMIT":
            raise _Failed(Failure(DatabaseError(f"COMMIT answered {status}"), False))


class _Failed(Exception):
    """One try failed; carries what it means."""

    def __init__(self, failure: Failure, statement: Statement | None = None) -> None:
        super().__init__(str(failure.error))
        self.failure = failure
        if statement is not None:
            failure.error.add_note(statement.sql)


async def _read(tx: PostgresTx, how: Callable[..., Awaitable[T]], statement: Statement, params: Params) -> T:
    try:
        return await how(tx, statement, params)
    except DatabaseError as error:
        if tx.failure is None:
            raise
        raise _Failed(tx.failure) from error.__cause__


async def _reset(con: Any) -> None:
    """Before a connection goes back: nothing is set on sessions, so there is only a transaction to end."""
    if con.is_in_transaction():
        await con.execute("ROLLBACK")


async def _roll_back(con: Any) -> None:
    """End the transaction; on a connection that is gone the server does so itself."""
    try:
        await con.execute("ROLLBACK")
    except SENT:
        with contextlib.suppress(*SENT):
            con.terminate()
