"""SQLite: one writer thread with group commit, reads beside it.

Transactions queue for the writer thread, which takes all that wait, runs each in a savepoint of one
BEGIN IMMEDIATE and makes them durable by a single commit (WAL, synchronous FULL). Small reads run on
the caller's thread (10 us), large ones on a reader thread. Other processes may write the same file;
this one never waits for them on the event loop.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from kilonova.db.database import Tx
from kilonova.db.errors import Busy, Closed, DatabaseError, StorageFull, UniqueViolation
from kilonova.db.statement import Params, Row, Statement
from kilonova.log import get_logger

A = TypeVar("A")
T = TypeVar("T")
log = get_logger(__name__)

_Outcome = tuple["asyncio.Future[Any]", Any, "BaseException | None"]
_BATCH = 128
_BUSY_S = 5.0
_Item = tuple[Callable[[Any, Any], Awaitable[Any]], Any, "asyncio.Future[Any]", asyncio.AbstractEventLoop]


def _connect(path: Path, *, readonly: bool) -> sqlite3.Connection:
    con = sqlite3.connect(
        path, isolation_level=None, check_same_thread=False, cached_statements=512, timeout=_BUSY_S
    )
    con.execute("PRAGMA journal_mode=WAL")
    con.execute("PRAGMA synchronous=FULL")
    con.execute("PRAGMA temp_store=MEMORY")
    con.execute("PRAGMA cache_size=-4096" if readonly else "PRAGMA cache_size=-8192")
    con.execute("PRAGMA journal_size_limit=67108864")
    if readonly:
        con.execute("PRAGMA query_only=1")
    return con


def translate(error: sqlite3.Error) -> DatabaseError:
    """The executor's error for one of sqlite3's."""
    code = getattr(error, "sqlite_errorname", "") or ""
    text = str(error)
    if code in ("SQLITE_CONSTRAINT_UNIQUE", "SQLITE_CONSTRAINT_PRIMARYKEY"):
        return UniqueViolation(text)
    if code == "SQLITE_FULL" or (code.startswith("SQLITE_IOERR") and "read" not in text):
        return StorageFull("the disk that holds the database is full or failing")
    if code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return Busy(text)
    return DatabaseError(text)


class SqliteTx:
    """`Tx` on the writer thread: its coroutines never suspend."""

    dialect = "sqlite"
    __slots__ = ("_con", "_depth")

    def __init__(self, con: sqlite3.Connection) -> None:
        self._con = con
        self._depth = 0

    async def execute(self, statement: Statement, params: Params) -> int:
        return self._con.execute(statement.sql, params).rowcount

    async def execute_many(self, statement: Statement, rows: Sequence[Params]) -> None:
        self._con.executemany(statement.sql, rows)

    async def fetch(self, statement: Statement, params: Params) -> list[Row]:
        return self._con.execute(statement.sql, params).fetchall()

    async def fetch_one(self, statement: Statement, params: Params) -> Row | None:
        row: Row | None = self._con.execute(statement.sql, params).fetchone()
        return row

    async def insert_if_absent(self, statement: Statement, params: Params) -> bool:
        # A failed single INSERT undoes itself in SQLite (ABORT), so it needs no savepoint of its own.
        try:
            self._con.execute(statement.sql, params)
        except sqlite3.IntegrityError as error:
            if isinstance(translate(error), UniqueViolation):
                return False
            raise
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


class SqliteDatabase:
    """`Database` over one SQLite file."""

    dialect = "sqlite"

    def __init__(self, path: Path, name: str = "global", commit_delay_s: float = 0.0) -> None:
        """`commit_delay_s` slows every commit down, for tests and benchmarks of slow disks."""
        self.path, self.name, self.commit_delay_s = path, name, commit_delay_s
        self.commits = 0
        self.transactions = 0
        self._queue: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._reader: sqlite3.Connection | None = None
        self._scan_con: sqlite3.Connection | None = None
        self._scanner = ThreadPoolExecutor(1, thread_name_prefix=f"db-read-{name}")

    def __repr__(self) -> str:
        return f"SqliteDatabase({self.name!r}, {str(self.path)!r})"

    async def open(self) -> None:
        try:
            self._reader = _connect(self.path, readonly=True)
            writer = _connect(self.path, readonly=False)
        except sqlite3.Error as error:
            raise translate(error) from error
        self._thread = threading.Thread(
            target=self._write_loop, args=(writer,), name=f"db-write-{self.name}", daemon=True
        )
        self._thread.start()

    async def close(self) -> None:
        if self._thread is None:
            return
        self._queue.put(None)
        thread, self._thread = self._thread, None
        await asyncio.to_thread(thread.join)
        self._scanner.shutdown(wait=True)
        for con in (self._reader, self._scan_con):
            if con is not None:
                con.close()
        self._reader = self._scan_con = None

    async def write(self, f: Callable[[Tx, A], Awaitable[T]], args: A) -> T:
        if self._thread is None:
            raise Closed(f"database {self.name} is closed")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._queue.put((f, args, future, loop))
        return await future

    async def fetch(self, statement: Statement, params: Params) -> list[Row]:
        return self._read(statement, params).fetchall()

    async def fetch_one(self, statement: Statement, params: Params) -> Row | None:
        cursor = self._read(statement, params)
        row: Row | None = cursor.fetchone()
        if row is not None:
            cursor.close()  # ends the read transaction: a snapshot is never held over an await
        return row

    def _read(self, statement: Statement, params: Params) -> sqlite3.Cursor:
        if self._reader is None:
            raise Closed(f"database {self.name} is closed")
        try:
            return self._reader.execute(statement.sql, params)
        except sqlite3.Error as error:
            raise translate(error) from error

    async def scan(self, statement: Statement, params: Params, fold: Callable[[list[Row]], T]) -> T:
        if self._reader is None:
            raise Closed(f"database {self.name} is closed")

        def work() -> T:
            if self._scan_con is None:
                self._scan_con = _connect(self.path, readonly=True)
            try:
                rows = self._scan_con.execute(statement.sql, params).fetchall()
            except sqlite3.Error as error:
                raise translate(error) from error
            return fold(rows)

        return await asyncio.get_running_loop().run_in_executor(self._scanner, work)

    # the writer thread

    def _write_loop(self, con: sqlite3.Connection) -> None:
        tx = SqliteTx(con)
        stopping = False
        while not stopping:
            batch: list[_Item] = []
            item = self._queue.get()
            while True:
                if item is None:
                    stopping = True
                    break
                batch.append(item)
                if len(batch) >= _BATCH:
                    break
                try:
                    item = self._queue.get_nowait()
                except queue.Empty:
                    break
            if batch:
                self._commit(con, tx, batch)
        con.close()

    def _commit(self, con: sqlite3.Connection, tx: SqliteTx, batch: list[_Item]) -> None:
        done: list[tuple[_Item, Any, BaseException | None]] = []
        try:
            con.execute("BEGIN IMMEDIATE")
            for item in batch:
                con.execute("SAVEPOINT t")
                try:
                    value = drive(item[0](tx, item[1]))
                except BaseException as error:
                    if con.in_transaction:
                        con.execute("ROLLBACK TO t")
                        con.execute("RELEASE t")
                        failure = translate(error) if isinstance(error, sqlite3.Error) else error
                        done.append((item, None, failure))
                        continue
                    raise  # SQLite rolled everything back itself (disk full, I/O error)
                con.execute("RELEASE t")
                done.append((item, value, None))
            if self.commit_delay_s:
                time.sleep(self.commit_delay_s)
            con.execute("COMMIT")
            self.commits += 1
            self.transactions += len(batch)
        except BaseException as error:
            if con.in_transaction:
                con.execute("ROLLBACK")
            failure = translate(error) if isinstance(error, sqlite3.Error) else error
            log.error("commit failed: %s", failure)
            done = [(item, None, failure) for item in batch]
        self._deliver(done)

    @staticmethod
    def _deliver(done: list[tuple[_Item, Any, BaseException | None]]) -> None:
        loops: dict[asyncio.AbstractEventLoop, list[_Outcome]] = {}
        for item, value, error in done:
            loops.setdefault(item[3], []).append((item[2], value, error))
        for loop, results in loops.items():
            try:
                loop.call_soon_threadsafe(_resolve, results)
            except RuntimeError:  # that loop is closed: nobody waits any more
                continue


def _resolve(results: list[_Outcome]) -> None:
    for future, value, error in results:
        if future.done():
            continue
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(value)
