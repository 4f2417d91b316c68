"""What all tests share: databases with tables in them, made quickly.

``pytest --databases=three|one|postgres`` chooses what the `databases` fixture opens.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from db.postgres_server import MissingPostgresError, PostgresServer, running
from kilonova.db.migrate import ensure
from kilonova.db.open import CELL0, GLOBAL, Databases, open_databases


def pytest_configure(config: pytest.Config) -> None:
    """SIGTERM ends a run as Ctrl-C does: what tests made on this machine is cleaned up."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--databases",
        choices=("three", "one", "postgres"),
        default="three",
        help="what the `databases` fixture opens: three SQLite files, one, or three PostgreSQL databases",
    )


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with all tables, global and cell; copy it, do not open it."""
    path = tmp_path_factory.mktemp("tables") / "all.db"
    _run(ensure(path, {"global", "cell"}))
    return path


def _run(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine on a loop of its own; a session's fixture may be asked for while a test's loop runs."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, work).result()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A private server whose template `tables` holds all tables."""
    try:
        servers = running()
        server = next(servers)
    except MissingPostgresError as error:
        pytest.skip(str(error))
    try:
        _run(_make_template(server))
        yield server
    finally:
        servers.close()


async def _make_template(server: PostgresServer) -> None:
    await _command(server, "CREATE DATABASE tables TEMPLATE template0")
    await ensure(server.url("tables"), {"global", "cell"})


async def _command(server: PostgresServer, sql: str) -> None:
    import asyncpg

    con = await asyncpg.connect(server.url())
    try:
        await con.execute(sql)
    finally:
        await con.close()


MakeUrl = Callable[..., str]


@pytest.fixture
def make_postgres(postgres_server: PostgresServer) -> Iterator[MakeUrl]:
    """``make_postgres()``: the URL of a new database with all tables; ``empty=True``: without."""
    made: list[str] = []

    def make(*, empty: bool = False) -> str:
        name = postgres_server.new_name()
        template = "template0" if empty else "tables"
        _run(_command(postgres_server, f"CREATE DATABASE {name} TEMPLATE {template}"))
        made.append(name)
        return postgres_server.url(name)

    yield make
    for name in made:
        _run(_command(postgres_server, f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture
def postgres_url(make_postgres: MakeUrl) -> str:
    """The URL of a new PostgreSQL database with all tables."""
    return make_postgres()


@pytest.fixture
async def databases(
    request: pytest.FixtureRequest, tmp_path: Path, sqlite_template: Path
) -> AsyncIterator[Databases]:
    """A cloud's open databases: `global`, `cell0`, `cell1`."""
    kind = request.config.getoption("--databases")
    names = (GLOBAL, CELL0, "cell1")
    if kind == "postgres":
        make: MakeUrl = request.getfixturevalue("make_postgres")
        urls = {name: make() for name in names}
    else:
        urls = {name: str(tmp_path / f"{'all' if kind == 'one' else name}.db") for name in names}
        for path in set(urls.values()):
            shutil.copy(sqlite_template, path)
    async with await open_databases(urls, create=False) as opened:
        yield opened
