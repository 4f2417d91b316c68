"""One cloud of several processes for the tests of this folder, in their order."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from db.postgres_server import PostgresServer
from services.services_cloud import SeveralProcesses


@pytest.fixture(scope="module")
def several(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeveralProcesses]:
    names = [postgres_server.new_name() for _ in range(2)]
    asyncio.run(_each(postgres_server, names, "CREATE DATABASE {} TEMPLATE template0"))
    folder: Path = tmp_path_factory.mktemp("several")
    cloud = SeveralProcesses(folder, *(postgres_server.url(name) for name in names))
    try:
        cloud.start()
        yield cloud
    finally:
        cloud.end()
        asyncio.run(_each(postgres_server, names, "DROP DATABASE {} WITH (FORCE)"))


async def _each(server: PostgresServer, names: list[str], sql: str) -> None:
    import asyncpg

    con = await asyncpg.connect(server.url())
    try:
        for name in names:
            await con.execute(sql.format(name))
    finally:
        await con.close()
