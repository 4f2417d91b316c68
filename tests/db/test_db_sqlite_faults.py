"""SQLite when things go wrong: a full disk, a crash, other processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from kilonova.db import sqlite as sqlite_module
from kilonova.db.database import Tx
from kilonova.db.errors import Busy, StorageFull
from kilonova.db.sqlite import SqliteDatabase
from kilonova.db.statement import Statement

CHILD = Path(__file__).with_name("sqlite_child.py")
INSERT = Statement("INSERT INTO quota_usages (project_id, user_id, resource, used) VALUES (:p, '', :r, 0)")
ADD = Statement("UPDATE quota_usages SET used = used + 1 WHERE project_id = 'p' AND resource = 'cores'")
USED = Statement("SELECT used FROM quota_usages WHERE project_id = 'p' AND resource = 'cores'")
COUNT = Statement("SELECT COUNT(*) FROM quota_usages WHERE project_id = :p")
DELETE = Statement("DELETE FROM quota_usages WHERE project_id = :p")


async def insert(tx: Tx, what: tuple[str, str]) -> None:
    await tx.execute(INSERT, {"p": what[0], "r": what[1]})


async def insert_many(tx: Tx, count: int) -> None:
    await tx.execute_many(INSERT, [{"p": "many", "r": f"{i:0180}"} for i in range(count)])


async def add(tx: Tx, _: None) -> None:
    await tx.execute(ADD, {})


@contextlib.asynccontextmanager
async def opened(path: Path) -> AsyncIterator[SqliteDatabase]:
    db = SqliteDatabase(path)
    await db.open()
    try:
        yield db
    finally:
        await db.close()


@pytest.fixture
def path(tmp_path: Path, sqlite_template: Path) -> Path:
    return Path(shutil.copy(sqlite_template, tmp_path / "x.db"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", folder], capture_output=True)
    if mount.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


async def test_a_full_disk(small_disk: Path, sqlite_template: Path) -> None:
    ballast = small_disk / "ballast"
    async with opened(Path(shutil.copy(sqlite_template, small_disk / "x.db"))) as db:
        await db.write(insert, ("p", "cores"))
        ballast.write_bytes(b"x" * 1_000_000)
        written, refused = 0, 0
        while refused < 3:  # it stays refused, however often
            results = await asyncio.gather(
                *(db.write(insert, ("q", f"{written + i:0180}")) for i in range(20)), return_exceptions=True
            )
            assert {type(r) for r in results} <= {type(None), StorageFull}
            written += sum(r is None for r in results)
            refused += any(isinstance(r, StorageFull) for r in results)
        with pytest.raises(StorageFull):
            await db.write(insert_many, 20_000)
        assert await db.fetch_one(COUNT, {"p": "q"}) == (written,)
        assert await db.scan(COUNT, {"p": "q"}, len) == 1
        ballast.unlink()
        await db.write(insert, ("q", "there is room again"))
        assert await db.fetch_one(COUNT, {"p": "q"}) == (written + 1,)
        assert await db.fetch_one(COUNT, {"p": "many"}) == (0,)
    with contextlib.closing(sqlite3.connect(small_disk / "x.db")) as con:
        assert con.execute("PRAGMA integrity_check").fetchone() == ("ok",)


async def test_a_file_at_its_limit_does_not_take_its_neighbours_along(path: Path) -> None:
    """A transaction too big for what is left fails; small ones of the same commit may pass."""

    async def limit(tx: Tx, pages: int) -> None:
        await tx.fetch(Statement(f"PRAGMA max_page_count={pages}"), {})

    async with opened(path) as db:
        pages = await db.fetch_one(Statement("PRAGMA page_count"), {})
        assert pages is not None
        await db.write(limit, pages[0] + 4)
        with pytest.raises(StorageFull):
            await db.write(insert_many, 2000)
        await db.write(insert, ("p", "cores"))
        await db.write(limit, pages[0] + 4000)
        await db.write(insert_many, 2000)
        assert await db.fetch_one(COUNT, {"p": "many"}) == (2000,)


def test_writes_that_the_system_cuts_off(path: Path) -> None:
    command = [sys.executable, CHILD, path, "fill", str(path.stat().st_size + 300_000)]
    child = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert child.returncode == 0, child.stderr
    assert int(child.stdout) > 10


@pytest.mark.parametrize("seed", range(4))
def test_a_crash_loses_nothing_acknowledged(path: Path, seed: int) -> None:
    pick = random.Random(seed)
    with subprocess.Popen([sys.executable, CHILD, path, "stream"], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        said = b""
        wanted = pick.randrange(1, 40_000)
        while len(said) < wanted:
            said += os.read(child.stdout.fileno(), 65536)
        child.kill()
        said += child.stdout.read()
    acknowledged = set(said.decode().split("\n")[:-1])
    with contextlib.closing(sqlite3.connect(path)) as con:
        kept = {row[0] for row in con.execute("SELECT resource FROM quota_usages WHERE project_id = 'stream'")}
        assert con.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert acknowledged and acknowledged <= kept


async def test_two_processes_write_one_file(path: Path) -> None:
    async with opened(path) as db:
        await db.write(insert, ("p", "cores"))
        child = await asyncio.create_subprocess_exec(sys.executable, CHILD, path, "add", "200")
        for _ in range(200):
            await db.write(add, None)
        assert await asyncio.wait_for(child.wait(), 60) == 0
        assert await db.fetch_one(USED, {}) == (400,)


async def test_another_process_holds_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_module, "_BUSY_S", 0.05)
    other = sqlite3.connect(path, isolation_level=None)
    async with opened(path) as db:
        await db.write(insert, ("p", "cores"))
        other.execute("BEGIN IMMEDIATE")
        waiting = [asyncio.ensure_future(db.write(add, None)) for _ in range(3)]
        while not all(task.done() for task in waiting):  # the loop is free all the time
            assert await db.fetch_one(USED, {}) == (0,)
            await asyncio.sleep(0)
        assert {type(task.exception()) for task in waiting} == {Busy}
        other.execute("ROLLBACK")
        await db.write(add, None)
        other.execute("BEGIN IMMEDIATE")
        late = asyncio.ensure_future(db.write(add, None))
        await asyncio.sleep(0)
        other.execute("ROLLBACK")
        await late
        assert await db.fetch_one(USED, {}) == (2,)
    other.close()


async def test_a_read_on_the_loop_does_not_wait_for_an_exclusive_lock(path: Path) -> None:
    async with opened(path) as db:
        await db.write(insert, ("p", "cores"))
        read = db._read
        monkey_calls = []

        def locked(statement: Statement, params: object) -> sqlite3.Cursor:
            monkey_calls.append(statement)
            error = sqlite3.OperationalError("database is locked")
            error.sqlite_errorname = "SQLITE_BUSY"
            raise error

        db._read = locked  # type: ignore[method-assign, assignment]  # the lock is hard to time
        assert await db.fetch_one(USED, {}) == (0,)
        assert await db.fetch(USED, {}) == [(0,)]
        db._read = read  # type: ignore[method-assign]  # as above
        assert len(monkey_calls) == 2


async def test_closing_leaves_one_file(path: Path) -> None:
    async with opened(path) as db:
        await db.write(insert_many, 500)
        assert path.with_name("x.db-wal").exists()
    leftover = path.with_name("x.db-wal")
    assert not leftover.exists() or leftover.stat().st_size == 0


async def test_commits_are_shared(path: Path) -> None:
    async with opened(path) as db:
        await db.write(insert, ("p", "cores"))
        before = db.commits
        await asyncio.gather(*(db.write(add, None) for _ in range(200)))
        assert db.commits - before <= 20
        assert await db.fetch_one(USED, {}) == (200,)
