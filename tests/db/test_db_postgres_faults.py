"""PostgreSQL when things go wrong: conflicts, lost connections, restarts, time limits."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest

from db.postgres_server import PostgresServer, running
from kilonova.db import postgres as postgres_module
from kilonova.db.database import Tx
from kilonova.db.errors import (
    BadParameter,
    Busy,
    CommitUnknown,
    DatabaseError,
    StorageFull,
    Unavailable,
    UniqueViolation,
)
from kilonova.db.postgres import PostgresDatabase
from kilonova.db.postgres_tx import matched, translate
from kilonova.db.statement import Statement

pytestmark = pytest.mark.postgres

WAIT_S = 30.0
INSERT = Statement("INSERT INTO quota_usages (project_id, user_id, resource, used) VALUES (:p, '', :r, 0)")
ADD = Statement("UPDATE quota_usages SET used = used + 1 WHERE project_id = 'p' AND resource = :r")
USED = Statement("SELECT used FROM quota_usages WHERE project_id = 'p' AND resource = :r")
SLEEP = Statement("SELECT 1 FROM pg_sleep(CAST(:s AS DOUBLE PRECISION))")
ME = Statement("SELECT CAST(pg_backend_pid() AS BIGINT)")
SLEEP_AT_COMMIT = """
    CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(20); RETURN NULL; END $$;
    CREATE CONSTRAINT TRIGGER slow AFTER UPDATE ON quota_usages DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION slow();
"""


@pytest.fixture
async def db(postgres_url: str) -> AsyncIterator[PostgresDatabase]:
    database = PostgresDatabase(postgres_url)
    await database.open()
    await database.write(seed, ["a", "b"])
    yield database
    await database.close()


@pytest.fixture
async def admin(postgres_url: str) -> AsyncIterator[asyncpg.Connection]:
    con = await asyncpg.connect(postgres_url)
    yield con
    await con.close(timeout=5)


async def seed(tx: Tx, names: list[str]) -> None:
    await tx.execute_many(INSERT, [{"p": "p", "r": name} for name in names])


async def add(tx: Tx, name: str) -> None:
    await tx.execute(ADD, {"r": name})


async def terminate_others(admin: asyncpg.Connection) -> int:
    rows = await admin.fetch(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    return len(rows)


async def until_somebody_sleeps(admin: asyncpg.Connection, event: str = "PgSleep") -> None:
    sleepers = "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = $1"
    async with asyncio.timeout(WAIT_S):
        while not await admin.fetchval(sleepers, event):
            pass


async def test_deadlocks_are_run_again(db: PostgresDatabase) -> None:
    met: list[tuple[str, str]] = []

    async def crosswise(tx: Tx, names: tuple[str, str]) -> None:
        await add(tx, names[0])
        if names not in met:
            met.append(names)
            await tx.fetch(SLEEP, {"s": 0.2})
        await add(tx, names[1])

    await asyncio.gather(db.write(crosswise, ("a", "b")), db.write(crosswise, ("b", "a")))
    assert db.retries >= 1
    assert await db.fetch_one(USED, {"r": "a"}) == await db.fetch_one(USED, {"r": "b"}) == (2,)


async def test_a_lock_that_stays_is_busy(
    db: PostgresDatabase, admin: asyncpg.Connection, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(postgres_module._SETTINGS, "lock_timeout", "30")
    hasty = PostgresDatabase(postgres_url)
    await hasty.open()
    async with admin.transaction():
        await admin.execute("UPDATE quota_usages SET used = 100 WHERE resource = 'a'")
        with pytest.raises(Busy):
            await hasty.write(add, "a")
        assert hasty.retries == 4
        assert await hasty.fetch_one(USED, {"r": "a"}) == (0,)
        late = asyncio.ensure_future(hasty.write(add, "a"))
        await until_somebody_sleeps(admin, "transactionid")
    await late
    assert await hasty.fetch_one(USED, {"r": "a"}) == (101,)
    await hasty.close()


async def test_a_killed_connection_is_run_again(db: PostgresDatabase, admin: asyncpg.Connection) -> None:
    runs = []

    async def slow(tx: Tx, _: None) -> object:
        runs.append(await tx.fetch_one(ME, {}))
        await add(tx, "a")
        if len(runs) == 1:
            await tx.fetch(SLEEP, {"s": 20})
        return await tx.fetch_one(USED, {"r": "a"})

    writing = asyncio.ensure_future(db.write(slow, None))
    await until_somebody_sleeps(admin)
    assert await terminate_others(admin) >= 1
    assert await asyncio.wait_for(writing, WAIT_S) == (1,)
    assert len(runs) == len(set(runs)) == 2
    await asyncio.gather(*(db.write(add, "b") for _ in range(20)))
    await terminate_others(admin)  # idle ones: nobody notices
    results = await asyncio.gather(*(db.write(add, "b") for _ in range(20)))
    assert len(results) == 20
    await terminate_others(admin)
    assert await db.fetch_one(USED, {"r": "b"}) == (40,)
    await terminate_others(admin)
    assert await db.scan(USED, {"r": "b"}, len) == 1


async def test_a_connection_lost_at_commit_is_unknown(db: PostgresDatabase, admin: asyncpg.Connection) -> None:
    await admin.execute(SLEEP_AT_COMMIT)
    writing = asyncio.ensure_future(db.write(add, "a"))
    await until_somebody_sleeps(admin)
    await terminate_others(admin)
    with pytest.raises(CommitUnknown):
        await asyncio.wait_for(writing, WAIT_S)
    assert await db.fetch_one(USED, {"r": "a"}) == (0,)


async def test_a_transaction_over_its_time(
    db: PostgresDatabase, admin: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def slow(tx: Tx, _: None) -> None:
        await add(tx, "a")
        await tx.fetch(SLEEP, {"s": 20})

    monkeypatch.setattr(postgres_module, "_TRANSACTION_S", 0.1)
    with pytest.raises(Busy, match="took over"):
        await db.write(slow, None)
    monkeypatch.setattr(postgres_module, "_TRANSACTION_S", 5.0)
    writing = asyncio.ensure_future(db.write(slow, None))
    await until_somebody_sleeps(admin)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    await asyncio.gather(*(db.write(add, "b") for _ in range(20)))  # the connections are all well
    assert await db.fetch_one(USED, {"r": "a"}) == (0,)


async def test_a_statement_over_its_time(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(postgres_module._SETTINGS, "statement_timeout", "50")
    hasty = PostgresDatabase(postgres_url)
    await hasty.open()
    with pytest.raises(Busy):
        await hasty.fetch(SLEEP, {"s": 20})
    assert hasty.retries == 0
    await hasty.close()


async def test_binds_are_typed(db: PostgresDatabase) -> None:
    with pytest.raises(BadParameter, match=r":r: expected str, got int"):
        await db.fetch(USED, {"r": 5})
    with pytest.raises(BadParameter) as caught:
        await db.fetch(USED, {"r": b"secret"})
    assert "secret" not in str(caught.value)
    with pytest.raises(BadParameter):
        await db.fetch(USED, {"r": "a\0b"})
    with pytest.raises(BadParameter, match="too long"):
        await db.write(seed, ["x" * 65])


@pytest.fixture(scope="module")
def own_server() -> Iterator[PostgresServer]:
    """A server that may be halted."""
    yield from running()


async def test_a_server_that_restarts(own_server: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    admin = await asyncpg.connect(own_server.url())
    await admin.execute(
        "CREATE TABLE quota_usages (project_id TEXT, user_id TEXT, resource TEXT PRIMARY KEY, used BIGINT)"
    )
    await admin.close()
    db = PostgresDatabase(own_server.url())
    await db.open()
    await db.write(seed, ["a"])
    own_server.halt(signal.SIGQUIT)
    with pytest.raises(Unavailable):
        await db.write(add, "a")
    with pytest.raises(Unavailable):
        await db.fetch_one(USED, {"r": "a"})
    with pytest.raises(Unavailable):
        await PostgresDatabase(own_server.url()).open()
    own_server.start()
    await db.write(add, "a")
    assert await db.fetch_one(USED, {"r": "a"}) == (1,)
    await db.close()


@pytest.mark.parametrize(
    ("error", "kind", "again"),
    [
        (asyncpg.DiskFullError("x"), StorageFull, False),
        (asyncpg.SerializationError("x"), Busy, True),
        (asyncpg.DeadlockDetectedError("x"), Busy, True),
        (asyncpg.LockNotAvailableError("x"), Busy, True),
        (asyncpg.QueryCanceledError("x"), Busy, False),
        (asyncpg.InvalidCachedStatementError("x"), Busy, True),
        (asyncpg.CannotConnectNowError("x"), Unavailable, True),
        (asyncpg.TooManyConnectionsError("x"), Unavailable, True),
        (asyncpg.ReadOnlySQLTransactionError("x"), Unavailable, True),
        (asyncpg.ConnectionDoesNotExistError("x"), Unavailable, True),
        (asyncpg.InterfaceError("connection is closed"), Unavailable, True),
        (ConnectionResetError("x"), Unavailable, True),
        (TimeoutError(), Busy, False),
        (asyncpg.UniqueViolationError("x"), UniqueViolation, False),
        (asyncpg.NotNullViolationError("x"), DatabaseError, False),
        (KeyError("name"), BadParameter, False),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_what_errors_mean(error: Exception, kind: type[DatabaseError], again: bool) -> None:
    failure = translate(error)
    assert type(failure.error) is kind and failure.again is again


def test_status_counts() -> None:
    assert [matched(s) for s in ("UPDATE 3", "INSERT 0 1", "DELETE 0", "SAVEPOINT")] == [3, 1, 0, 0]


async def test_a_client_that_stands_still_in_a_transaction_is_ended(
    db: PostgresDatabase, postgres_url: str
) -> None:
    """Between Parse and Bind no limit of the server's counts; the locks of such a session would stay for ever."""
    stopped = await asyncpg.connect(postgres_url, server_settings={"application_name": "kilonova"})
    stranger = await asyncpg.connect(postgres_url)
    try:
        for con, name in ((stopped, "a"), (stranger, "b")):
            await con.execute("BEGIN")
            await con.execute(f"UPDATE quota_usages SET used = 7 WHERE resource = '{name}'")
            await con.prepare("SELECT 1")
        deadline = asyncio.get_running_loop().time() + WAIT_S
        while not await db.end_stalled(0.1):
            assert asyncio.get_running_loop().time() < deadline
            await asyncio.sleep(0.02)
        await db.write(add_to, "a")
        assert await db.fetch_one(USED, {"r": "a"}) == (1,)
        assert await stranger.fetchval("SELECT used FROM quota_usages WHERE resource = 'b'") == 7
        assert await db.end_stalled(0.0) == 0
    finally:
        stopped.terminate()
        stranger.terminate()


async def add_to(tx: Tx, name: str) -> None:
    await tx.execute(ADD, {"r": name})
