"""Databases come to be, grow older, and are refused when they are too new."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from kilonova.db import migrate, migrations
from kilonova.db.errors import DatabaseError, SchemaTooNew, Unavailable
from kilonova.db.migrate import ensure
from kilonova.db.url import locate

VERSIONS = "SELECT collection, version FROM schema_version ORDER BY collection"


def query(path: Path, sql: str) -> list[tuple[object, ...]]:
    con = sqlite3.connect(path)
    try:
        return con.execute(sql).fetchall()
    finally:
        con.close()


def alter(path: Path, sql: str) -> None:
    con = sqlite3.connect(path, isolation_level=None)
    con.execute(sql)
    con.close()


def backups(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*backup*")}


def tables(path: Path) -> set[str]:
    return {str(row[0]) for row in query(path, "SELECT name FROM sqlite_master WHERE type = 'table'")}


async def test_kinds_have_their_tables(tmp_path: Path) -> None:
    for kind in ("global", "cell"):
        await ensure(tmp_path / kind, {kind})  # type: ignore[arg-type]  # a literal in a loop
    assert "flavors" in tables(tmp_path / "global") and "servers" not in tables(tmp_path / "global")
    assert "servers" in tables(tmp_path / "cell") and "flavors" not in tables(tmp_path / "cell")
    assert tables(tmp_path / "global") & tables(tmp_path / "cell") >= {"operations", "changes"}
    assert stat.S_IMODE((tmp_path / "cell").stat().st_mode) == 0o600
    await ensure(tmp_path / "global", {"global", "cell"})  # one more kind in a file that exists
    assert tables(tmp_path / "global") >= tables(tmp_path / "cell") | {"flavors"}
    assert query(tmp_path / "global", VERSIONS) == [(c, migrations.HEAD) for c in ("cell", "global", "journal")]
    assert not backups(tmp_path)


def test_an_up_to_date_start_imports_nothing_heavy(sqlite_template: Path) -> None:
    script = (
        "import asyncio, sys\nfrom kilonova.db.open import one_file, open_databases\n"
        "from pathlib import Path\n"
        "async def main():\n"
        "    async with await open_databases(dict.fromkeys(('global', 'cell0', 'cell1'), sys.argv[1])): pass\n"
        "asyncio.run(main())\n"
        "print(sorted({'sqlalchemy', 'alembic', 'asyncpg', 'mako'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", script, str(sqlite_template)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "[]"


async def test_many_processes_at_once(tmp_path: Path) -> None:
    path = tmp_path / "all.db"
    await asyncio.gather(*(ensure(path, {"global", "cell"}) for _ in range(4)))
    assert len(query(path, VERSIONS)) == 3


async def test_a_newer_one_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "all.db"
    await ensure(path, {"global"})
    alter(path, "UPDATE schema_version SET version = 99 WHERE collection = 'global'")
    with pytest.raises(SchemaTooNew, match="newer kilonova"):
        await ensure(path, {"global", "cell"})
    assert "servers" not in tables(path)


@pytest.fixture
def second_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that there is a version 2 with one more table per collection."""
    from kilonova.db.migrations import plan as plan_module

    def plan(dialect: str, collection: str, version: int) -> list[str]:
        first = real(dialect, collection, version) if version == 0 else []  # type: ignore[arg-type]  # str is wider
        return [*first, f"CREATE TABLE more_{collection} (id BIGINT)"]

    real = plan_module.plan
    monkeypatch.setattr(plan_module, "plan", plan)
    monkeypatch.setattr(migrate, "HEAD", 2)


async def test_an_older_one_is_copied_and_migrated(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    path = tmp_path / "all.db"
    await ensure(path, {"global"})
    alter(path, "INSERT INTO flavor_access VALUES ('f', 'p')")
    born = query(path, "SELECT collection, born FROM schema_version")
    request.getfixturevalue("second_version")
    await ensure(path, {"global", "cell"})
    assert tables(path) >= {"more_global", "more_journal", "more_cell", "servers"}
    assert set(born) <= set(query(path, "SELECT collection, born FROM schema_version"))
    assert query(path, "SELECT * FROM flavor_access") == [("f", "p")]
    backup = tmp_path / "all.db.backup-1"
    assert query(backup, "SELECT * FROM flavor_access") == [("f", "p")]
    assert "more_global" not in tables(backup) and stat.S_IMODE(backup.stat().st_mode) == 0o600
    await ensure(path, {"global", "cell"})
    assert backups(tmp_path) == {"all.db.backup-1"}


async def test_a_migration_that_fails_changes_nothing(tmp_path: Path, second_version: None) -> None:
    path = tmp_path / "all.db"
    await ensure(path, {"global"})
    alter(path, "UPDATE schema_version SET version = 1")
    before = tables(path)
    with pytest.raises(DatabaseError, match="already exists"):
        await ensure(path, {"global", "cell"})
    assert tables(path) == before
    assert set(query(path, VERSIONS)) == {("global", 1), ("journal", 1)}


@pytest.mark.parametrize("make", ["text", "folder", "nowhere"])
async def test_what_is_no_database_is_one_clear_error(tmp_path: Path, make: str) -> None:
    path = tmp_path / "x.db"
    if make == "text":
        path.write_text("not a database, but long enough to look at" * 50)
    elif make == "folder":
        path.mkdir()
    else:
        path = tmp_path / "missing" / "x.db"
    with pytest.raises(DatabaseError, match=r"x\.db"):
        await ensure(path, {"global"})


@pytest.mark.postgres
async def test_postgres_has_its_tables(make_postgres, request: pytest.FixtureRequest) -> None:  # type: ignore[no-untyped-def]  # a factory
    import asyncpg

    url = make_postgres(empty=True)
    await asyncio.gather(*(ensure(url, {"global"}) for _ in range(4)))
    con = await asyncpg.connect(url)
    try:
        assert [tuple(r) for r in await con.fetch(VERSIONS)] == [("global", 1), ("journal", 1)]
        await ensure(url, {"cell"})
        assert await con.fetchval("SELECT COUNT(*) FROM servers") == 0
        request.getfixturevalue("second_version")
        await ensure(url, {"cell"})
        assert [tuple(r) for r in await con.fetch(VERSIONS)] == [("cell", 2), ("global", 2), ("journal", 2)]
        await con.execute("UPDATE schema_version SET version = 99")
        with pytest.raises(SchemaTooNew):
            await ensure(url, {"global"})
    finally:
        await con.close()


async def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="postgresql://"):
        await ensure(f"postgresql://nobody:secret@/none?host={tmp_path}", {"global"})


def test_urls(tmp_path: Path) -> None:
    assert locate(tmp_path / "a.db").path == tmp_path / "a.db"
    assert locate(f"sqlite:///{tmp_path}/a.db").path == tmp_path / "a.db"
    server = locate("postgresql+psycopg2://user:secret@db.example:5433/nova_api?sslmode=require")
    assert server.dsn == "postgresql://user:secret@db.example:5433/nova_api?sslmode=require"
    assert "secret" not in f"{server} {server!r}" and "db.example:5433/nova_api" in str(server)
    for wrong in ("mysql+pymysql://h/db", "sqlite://", "sqlite:///", "oracle://h"):
        with pytest.raises(ValueError, match=r"sqlite|kind"):
            locate(wrong)
