"""One cloud of several processes for the tests of this folder, in their order."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from db.postgres_server import PostgresServer
from kilonova.compute.virt import registry
from kilonova.guestimage import build
from services.services_cloud import SeveralProcesses


@contextmanager
def _databases(server: PostgresServer) -> Iterator[list[str]]:
    names = [server.new_name() for _ in range(2)]
    asyncio.run(_each(server, names, "CREATE DATABASE {} TEMPLATE template0"))
    try:
        yield [server.url(name) for name in names]
    finally:
        asyncio.run(_each(server, names, "DROP DATABASE {} WITH (FORCE)"))


@contextmanager
def _running(cloud: SeveralProcesses) -> Iterator[SeveralProcesses]:
    try:
        cloud.start()
        yield cloud
    finally:
        cloud.end()


@pytest.fixture(scope="module")
def several(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeveralProcesses]:
    """Two APIs, two conductors, one compute process of five sim hosts."""
    folder = tmp_path_factory.mktemp("several")
    with _databases(postgres_server) as urls, _running(SeveralProcesses(folder, *urls)) as cloud:
        asyncio.run(cloud.takes_servers())
        yield cloud


@pytest.fixture
def real_host(postgres_server: PostgresServer, tmp_path: Path) -> Iterator[SeveralProcesses]:
    """One API, one conductor, one compute process with libvirt, and the project's guest image."""
    image = tmp_path / "guest.qcow2"
    kept = os.environ.get("KILONOVA_TEST_GUEST_CACHE")
    build(image, cache=Path(kept) if kept else tmp_path / "cache", progress=lambda _what, _part: None)
    folder = Path(tempfile.mkdtemp(prefix="kn-services-"))
    folder.chmod(0o711)  # QEMU's user must get through; pytest's own folders are closed to others
    try:
        with _databases(postgres_server) as urls:
            cloud = SeveralProcesses(folder, *urls, each=1, image=image)
            with _running(cloud):
                yield cloud
    finally:
        registry.purge(folder / "host")
        shutil.rmtree(folder, ignore_errors=True)


async def _each(server: PostgresServer, names: list[str], sql: str) -> None:
    import asyncpg

    con = await asyncpg.connect(server.url())
    try:
        for name in names:
            await con.execute(sql.format(name))
    finally:
        await con.close()
