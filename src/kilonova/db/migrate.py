"""Tables come to be and change here, before a database is opened.

A start with up-to-date tables reads `schema_version` once and imports nothing. Otherwise the missing
collections are made, older ones migrated (a SQLite file is copied beside itself first), and tables
newer than this code refused. Any number of processes may do so at the same time: one works, the others
wait and find it done. Each database is changed in one transaction: all of it or nothing.

`schema_version` also holds the database's birth mark, so that a position in its changes is never taken
for one of another database's.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import uuid
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from kilonova.db.errors import DatabaseError, SchemaTooNew, Unavailable
from kilonova.db.migrations import HEAD
from kilonova.db.url import Location, locate
from kilonova.log import get_logger

if TYPE_CHECKING:
    import asyncpg

log = get_logger(__name__)

Kind = Literal["global", "cell"]
_LOCK_S = 60.0
_ADVISORY_LOCK = 0x6B696C6F6E6F7661

_CREATE = (
    "CREATE TABLE IF NOT EXISTS schema_version"
    " (collection VARCHAR(16) NOT NULL PRIMARY KEY, version BIGINT NOT NULL, born VARCHAR(36) NOT NULL)"
)
_READ = "SELECT collection, version FROM schema_version"


async def ensure(url: str | os.PathLike[str], kinds: Iterable[Kind]) -> None:
    """Make the database at `url` hold the tables of `kinds` (and the journal's) as of `HEAD`.

    Raises SchemaTooNew, Unavailable (a server does not answer), DatabaseError (a file cannot be used).
    """
    location = locate(url)
    wanted = ["journal", *sorted(set(kinds))]
    if location.path is not None:
        await _ensure_sqlite(location.path, wanted)
    else:
        await _ensure_postgres(location, wanted)


async def versions(url: str | os.PathLike[str]) -> dict[str, int]:
    """The version of each collection of tables at `url`, if any. Raises Unavailable, DatabaseError."""
    location = locate(url)
    if location.path is not None:
        try:
            return _seen(location.path)
        except sqlite3.Error as error:
            raise DatabaseError(f"{location.path}: {error}") from error
    import asyncpg

    try:
        con = await asyncpg.connect(location.dsn, timeout=10)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise Unavailable(f"{location}: {error}") from error
    try:
        return await _server_versions(con)
    finally:
        await con.close()


async def behind(url: str | os.PathLike[str], kinds: Iterable[Kind]) -> bool:
    """Whether `ensure` would have something to do. Raises SchemaTooNew, Unavailable, DatabaseError."""
    found = await versions(url)
    missing(found, (), locate(url))
    return any(found.get(name, 0) < HEAD for name in ("journal", *kinds))


def missing(found: Mapping[str, int], wanted: Iterable[str], where: object) -> dict[str, int]:
    """Return the collections to work on and their versions now; SchemaTooNew if any is newer than this code."""
    newest = max(found.values(), default=0)
    if newest > HEAD:
        raise SchemaTooNew(
            f"{where} was made by a newer kilonova (tables of version {newest}; this one knows {HEAD})"
        )
    work = set(wanted) | set(found)
    return {name: found.get(name, 0) for name in sorted(work) if found.get(name, 0) < HEAD}


# SQLite


async def _ensure_sqlite(path: Path, wanted: list[str]) -> None:
    try:
        if not missing(_seen(path), wanted, path):
            return
        with ThreadPoolExecutor(1, thread_name_prefix="db-migrate") as pool:
            await asyncio.get_running_loop().run_in_executor(pool, _change_sqlite, path, wanted)
    except sqlite3.Error as error:
        raise DatabaseError(f"{path}: {error}") from error
    except OSError as error:
        raise DatabaseError(f"{path}: {error.strerror}") from error


def _seen(path: Path) -> dict[str, int]:
    if not path.exists() or not path.stat().st_size:
        return {}
    with closing(_connect(path)) as con:
        return _versions(con)


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None, timeout=_LOCK_S)


def _versions(con: sqlite3.Connection) -> dict[str, int]:
    try:
        return dict(con.execute(_READ).fetchall())
    except sqlite3.OperationalError as error:
        if "no such table" not in str(error):
            raise
        return {}


def _change_sqlite(path: Path, wanted: list[str]) -> None:
    from kilonova.db.migrations.plan import plan

    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    with closing(_connect(path)) as con:
        con.execute("PRAGMA journal_mode=WAL")
        con.execute("BEGIN IMMEDIATE")
        try:
            found = _versions(con)
            work = missing(found, wanted, path)
            if any(work.values()):
                _back_up(path, min(found.values()))
            if work:
                con.execute(_CREATE)
            for name, version in work.items():
                log.info("tables of %s: %s from version %d to %d", path, name, version, HEAD)
                for statement in plan("sqlite", name, version):  # type: ignore[arg-type]  # a row's name
                    con.execute(statement)
                if version:
                    con.execute("UPDATE schema_version SET version = ? WHERE collection = ?", (HEAD, name))
                else:
                    con.execute("INSERT INTO schema_version VALUES (?, ?, ?)", (name, HEAD, str(uuid.uuid4())))
            con.execute("COMMIT")
        except BaseException:
            con.execute("ROLLBACK")
            raise


def _back_up(path: Path, version: int) -> None:
    """Copy the file as it is committed now; a copy that was cut short is made again."""
    target = path.with_name(f"{path.name}.backup-{version}")
    if target.exists():
        return
    part = target.with_name(target.name + ".part")
    part.unlink(missing_ok=True)
    os.close(os.open(part, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    with closing(_connect(path)) as source, closing(_connect(part)) as copy:
        source.backup(copy)
    part.replace(target)
    log.info("copied %s to %s before changing its tables", path, target)


# PostgreSQL


async def _ensure_postgres(location: Location, wanted: list[str]) -> None:
    import asyncpg

    try:
        con = await asyncpg.connect(location.dsn, timeout=10)
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise Unavailable(f"{location}: {error}") from error
    try:
        if not missing(await _server_versions(con), wanted, location):
            return
        from kilonova.db.migrations.plan import plan

        async with con.transaction():
            await con.execute("SELECT pg_advisory_xact_lock($1)", _ADVISORY_LOCK, timeout=_LOCK_S)
            work = missing(await _server_versions(con), wanted, location)
            if work:
                await con.execute(_CREATE)
            for name, version in work.items():
                log.info("tables of %s: %s from version %d to %d", location, name, version, HEAD)
                for statement in plan("postgresql", name, version):  # type: ignore[arg-type]  # a row's name
                    await con.execute(statement)
                if version:
                    await con.execute("UPDATE schema_version SET version = $1 WHERE collection = $2", HEAD, name)
                else:
                    born = str(uuid.uuid4())
                    await con.execute("INSERT INTO schema_version VALUES ($1, $2, $3)", name, HEAD, born)
    except asyncpg.PostgresError as error:
        raise DatabaseError(f"{location}: {error}") from error
    finally:
        await con.close()


async def _server_versions(con: asyncpg.Connection) -> dict[str, int]:
    if await con.fetchval("SELECT to_regclass('schema_version')::text") is None:
        return {}
    return dict(await con.fetch(_READ))
