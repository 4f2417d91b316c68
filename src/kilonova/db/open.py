"""A cloud's databases by name: ``global``, ``cell0``, ``cell1``, ...

The same URL under several names is one `Database` object that serves them all ("one file"). Code is
right when they are all apart; being together only saves commits. This is the one place that chooses an
executor by URL.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path

from kilonova.db.database import Database
from kilonova.db.migrate import Kind, ensure
from kilonova.db.sqlite import SqliteDatabase
from kilonova.db.url import Location, locate

GLOBAL = "global"
CELL0 = "cell0"
"""Where servers without a host live."""

CONNECTIONS = 8
"""To a database server, where nobody said otherwise."""
Urls = Mapping[str, str | os.PathLike[str]]


class Databases:
    """The open databases of one process. Close with `close()`, or use ``async with``."""

    def __init__(self, by_name: Mapping[str, Database]) -> None:
        self._by_name = dict(by_name)
        self.global_ = self._by_name[GLOBAL]
        self.cells = {name: db for name, db in sorted(self._by_name.items()) if name != GLOBAL}
        """Cells by name; several may be the same object, and the same as `global_`."""

    def __repr__(self) -> str:
        return f"Databases({self._by_name!r})"

    def __iter__(self) -> Iterator[Database]:
        return iter(self.all())

    def all(self) -> list[Database]:
        """Return each database once, the global one first."""
        return list({id(db): db for db in (self.global_, *self.cells.values())}.values())

    async def close(self) -> None:
        async with AsyncExitStack() as stack:
            for db in self.all():
                stack.push_async_callback(db.close)

    async def __aenter__(self) -> Databases:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def one_file(folder: Path) -> dict[str, str | os.PathLike[str]]:
    """Return the layout with everything in one SQLite file: a user's default."""
    return dict.fromkeys((GLOBAL, CELL0, "cell1"), folder / "kilonova.db")


def three_files(folder: Path) -> dict[str, str | os.PathLike[str]]:
    """Return the layout with three SQLite files: what tests run with as a rule."""
    return {name: folder / f"{name}.db" for name in (GLOBAL, CELL0, "cell1")}


def make_database(location: Location, name: str, connections: int = CONNECTIONS) -> Database:
    """Return the executor for a location, not yet open. `connections`: at most this many to a server."""
    if location.path is not None:
        return SqliteDatabase(location.path, name)
    from kilonova.db.postgres import PostgresDatabase

    return PostgresDatabase(location.dsn, name, connections)


async def open_databases(urls: Urls, *, create: bool = True, connections: Mapping[str, int] | None = None) -> Databases:
    """Open the databases that `urls` names (a path or URL each), with their tables made or migrated.

    `global` must be among the names; every other name is a cell. With `create` False the tables are
    taken as they are. `connections`: the most to a server, by name. Raises ValueError for a bad URL,
    SchemaTooNew, Unavailable, DatabaseError; what was opened before is closed again.
    """
    if GLOBAL not in urls:
        raise ValueError("the global database has no URL")
    names: dict[Location, list[str]] = {}
    for name in sorted(urls, key=lambda n: (n != GLOBAL, n)):
        names.setdefault(locate(urls[name]), []).append(name)
    by_name: dict[str, Database] = {}
    async with AsyncExitStack() as opened:
        for location, users in names.items():
            if create:
                kinds: set[Kind] = {"global" if name == GLOBAL else "cell" for name in users}
                await ensure(location.path or location.dsn, kinds)
            most = max((connections or {}).get(name, CONNECTIONS) for name in users)
            db = make_database(location, users[0], most)
            opened.push_async_callback(db.close)
            await db.open()
            by_name.update(dict.fromkeys(users, db))
        opened.pop_all()
    return Databases(by_name)
