"""SQLite: one writer thread with group commit, reads beside it.

Transactions queue for the writer thread, which takes all that wait, runs each in a savepoint of one
BEGIN IMMEDIATE and makes them durable by a single commit (WAL, synchronous FULL). Small reads run on
the caller's thread (a few microseconds), large ones on a reader thread. Other processes may write the
same file; this one never waits for them on the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import random
import sqlite3
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from kilonova.db.database import Tx, Watchers
from kilonova.db.errors import Busy, Closed, DatabaseError
from kilonova.db.sqlite_tx import SENT, SqliteTx, drive, translate
from kilonova.db.statement import Params, Row, Statement
from kilonova.log import get_logger

A = TypeVar("A")
T = TypeVar("T")
log = get_logger(__name__)

_LINGER_S = 0.0005
_BATCH = 128
_TRIES = 5
_BUSY_S = 1.0
_LOOP_BUSY_S = 0.02
"""What a read on the loop may wait for a lock (only while another process recovers or closes the file)."""


class _Item(NamedTuple):
    f: Callable[[Any, Any], Awaitable[Any]]
    args: Any
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop


_Outcome = tuple[_Item, Any, BaseException | None]


def _connect(path: Path, *, readonly: bool, busy_s: float, cache_kb: int = 2048) -> sqlite3.Connection:
    con = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=512, timeout=_BUSY_S)
    con.execute("PRAGMA journal_mode=WAL")
    con.execute("PRAGMA synchronous=FULL")
    con.execute("PRAGMA temp_store=MEMORY")
    con.execute("PRAGMA case_sensitive_like=ON")  # as on the other databases
    con.execute(f"PRAGMA cache_size=-{cache_kb}")
    con.execute("PRAGMA journal_size_limit=67108864")
    con.execute("PRAGMA wal_autocheckpoint=4000")  # 16 MB: a checkpoint in a commit's way four times less often
    con.execute(f"PRAGMA busy_timeout={int(busy_s * 1000)}")
    if readonly:
        con.execute("PRAGMA query_only=1")
    return con


class SqliteDatabase:
    """`Database` over one SQLite file."""

    dialect = "sqlite"

    def __init__(self, path: Path, name: str = "global", commit_delay_s: float = 0.0) -> None:
        """`commit_delay_s` slows every commit down, for tests and benchmarks of slow disks."""
        self.path, self.name, self.commit_delay_s = path, name, commit_delay_s
        self.commits = 0
        self.transactions = 0
        self._watchers = Watchers()
        self._queue: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._reader: sqlite3.Connection | None = None
        self._scan_con: sqlite3.Connection | None = None
        self._scanner = ThreadPoolExecutor(1, thread_name_prefix=f"db-read-{name}")

    def __repr__(self) -> str:
        return f"SqliteDatabase({self.name!r}, {str(self.path)!r})"

    async def open(self) -> None:
        """Open the file, whose tables `db.migrate` has made; raises DatabaseError."""
        try:
            writer = _connect(self.path, readonly=False, busy_s=_BUSY_S, cache_kb=4096)
            self._reader = _connect(self.path, readonly=True, busy_s=_LOOP_BUSY_S)
        except sqlite3.Error as error:
            raise DatabaseError(f"{self.path}: {translate(error)}") from error
        self._thread = threading.Thread(
            target=self._write_loop, args=(writer,), name=f"db-write-{self.name}", daemon=True
        )
        self._thread.start()

    async def close(self) -> None:
        """Commit what was asked for before, then close; later calls raise Closed."""
        if self._thread is None:
            return
        self._queue.put(None)
        thread, self._thread = self._thread, None
        reader, self._reader = self._reader, None
        await asyncio.get_running_loop().run_in_executor(self._scanner, thread.join)
        self._scanner.shutdown(wait=True)
        for con in (reader, self._scan_con):
            if con is not None:
                con.close()
        self._scan_con = None

    def watch(self, callback: Callable[[], None]) -> Callable[[], None]:
        return self._watchers.add(callback)

    async def write(self, f: Callable[[Tx, A], Awaitable[T]], args: A) -> T:
        if self._thread is None:
            raise Closed(f"database {self.name} is closed")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._queue.put(_Item(f, args, future, loop))
        return await future

    async def fetch(self, statement: Statement, params: Params) -> list[Row]:
        try:
            return self._read(statement, params).fetchall()
        except SENT as error:
            return await self._read_again(error, statement, params)

    async def fetch_one(self, statement: Statement, params: Params) -> Row | None:
        try:
            cursor = self._read(statement, params)
            row: Row | None = cursor.fetchone()
            if row is not None:
                cursor.close()  # ends the read transaction: a snapshot is never held over an await
        except SENT as error:
            rows = await self._read_again(error, statement, params)
            return rows[0] if rows else None
        return row

    def _read(self, statement: Statement, params: Params) -> sqlite3.Cursor:
        if self._reader is None:
            raise Closed(f"database {self.name} is closed")
        return self._reader.execute(statement.sql, params)

    async def _read_again(self, error: Exception, statement: Statement, params: Params) -> list[Row]:
        """Wait for another process's lock on the reader thread instead of the loop."""
        failure = translate(error)
        if isinstance(failure, Busy):
            return await self.scan(statement, params, _same)
        failure.add_note(statement.sql)
        raise failure from error

    async def scan(self, statement: Statement, params: Params, fold: Callable[[list[Row]], T]) -> T:
        if self._reader is None:
            raise Closed(f"database {self.name} is closed")

        def work() -> T:
            if self._scan_con is None:
                # Pages are read once from one end to the other: a cache would only be memory.
                self._scan_con = _connect(self.path, readonly=True, busy_s=_TRIES * _BUSY_S, cache_kb=256)
            try:
                rows = self._scan_con.execute(statement.sql, params).fetchall()
            except SENT as error:
                failure = translate(error)
                failure.add_note(statement.sql)
                raise failure from error
            return fold(rows)

        return await asyncio.get_running_loop().run_in_executor(self._scanner, work)

    # the writer thread

    def _write_loop(self, con: sqlite3.Connection) -> None:
        tx = SqliteTx(con)
        stopping = False
        crowd = 1
        while not stopping:
            batch: list[_Item] = []
            item = self._queue.get()
            # Where several came together, several are on their way again: a commit shared by them is cheaper than
            # the moment they wait for each other. Whoever is alone never waits.
            linger_until = time.monotonic() + _LINGER_S if crowd > 1 else 0.0
            while True:
                if item is None:
                    stopping = True
                    break
                if not item.future.cancelled():  # nobody waits for it any more, and it was not begun
                    batch.append(item)
                    if len(batch) >= _BATCH:
                        break
                try:
                    item = self._queue.get_nowait()
                except queue.Empty:
                    left = linger_until - time.monotonic() if len(batch) < crowd else 0.0
                    if left <= 0:
                        break
                    try:
                        item = self._queue.get(timeout=left)
                    except queue.Empty:
                        break
            crowd = max(len(batch), crowd // 2, 1)
            if batch:
                self._commit(con, tx, batch)
        with contextlib.suppress(sqlite3.Error):  # everything into the one file, if nobody else has it open
            con.execute("PRAGMA busy_timeout=0")
            con.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        con.close()

    def _commit(self, con: sqlite3.Connection, tx: SqliteTx, batch: list[_Item]) -> None:
        done: list[_Outcome] = []
        changed = False
        try:
            _begin(con)
            for item in batch:
                # The first one needs no savepoint: there is nothing else yet that a rollback would take along.
                apart = bool(done)
                if apart:
                    con.execute("SAVEPOINT t")
                value, failure = _run(tx, item)
                if failure is None:
                    changed = changed or tx.changed
                elif not con.in_transaction:
                    raise failure  # SQLite rolled everything back itself (disk full, I/O error)
                elif apart:
                    con.execute("ROLLBACK TO t")
                else:
                    con.execute("ROLLBACK")
                    _begin(con)
                if apart:
                    con.execute("RELEASE t")
                done.append((item, value, failure))
            if self.commit_delay_s:
                time.sleep(self.commit_delay_s)
            con.execute("COMMIT")
            self.commits += 1
            self.transactions += len(batch)
        except BaseException as error:
            failure = translate(error)
            _give_up(con)
            log.error("database %s: commit of %d transactions failed: %s", self.name, len(batch), failure)
            done = [(item, None, failure) for item in batch]
            changed = False
        self._deliver(done, changed)

    def _deliver(self, done: list[_Outcome], changed: bool) -> None:
        loops: dict[asyncio.AbstractEventLoop, list[_Outcome]] = {}
        for outcome in done:
            loops.setdefault(outcome[0].loop, []).append(outcome)
        for loop, results in loops.items():
            try:
                loop.call_soon_threadsafe(self._resolve, results, changed)
            except RuntimeError:  # that loop is closed: nobody waits any more
                continue

    def _resolve(self, results: list[_Outcome], changed: bool) -> None:
        for item, value, error in results:
            if item.future.done():
                continue
            if error is not None:
                item.future.set_exception(error)
            else:
                item.future.set_result(value)
        if changed:
            self._watchers.call()


def _same(rows: list[Row]) -> list[Row]:
    return rows


def _begin(con: sqlite3.Connection) -> None:
    for attempt in range(1, _TRIES + 1):
        try:
            con.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if attempt == _TRIES or not isinstance(translate(error), Busy):
                raise
            time.sleep(random.uniform(0.001, 0.02))
        else:
            return


def _run(tx: SqliteTx, item: _Item) -> tuple[Any, BaseException | None]:
    tx.begin()
    try:
        value = drive(item.f(tx, item.args))
    except BaseException as error:
        return None, translate(error)
    return value, tx.failure


def _give_up(con: sqlite3.Connection) -> None:
    try:
        if con.in_transaction:
            con.execute("ROLLBACK")
    except sqlite3.Error as error:
        log.error("rollback failed: %s", error)
