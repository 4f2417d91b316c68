"""Ports of the embedded network, made in the operation's own commit where it lives in the same SQLite file."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from conductor.small_cloud import PROJECT, SmallCloud, count
from kilonova.compute.virt.sim.world import SimWorld
from kilonova.db.open import Databases, one_file, open_databases, three_files
from kilonova.db.statement import Statement
from kilonova.model.operation import RequestedNetwork
from kilonova.network.bootstrap import bootstrap_network
from kilonova.network.service import EmbeddedNetwork

PORTS = "SELECT COUNT(*) FROM ports"
KIND = Statement("SELECT kind, state FROM steps WHERE name = 'ports' ORDER BY started_at")
ANY = Statement("SELECT id FROM networks")


class Fixture:
    """A cloud whose network is the real embedded one."""

    def __init__(self, databases: Databases, cloud: SmallCloud, network_id: str) -> None:
        self.databases, self.cloud, self.network_id = databases, cloud, network_id

    async def boot(self, network_id: str = "") -> str:
        wanted = RequestedNetwork(network_id=network_id or self.network_id)
        (uuid,) = await self.cloud.create(networks=(wanted,))
        return uuid

    async def kinds(self) -> list[tuple[str, str]]:
        cell = self.databases.cells["cell1"]
        return [(kind, state) for kind, state in await cell.fetch(KIND, {})]


async def make(folder: Path, layout) -> AsyncIterator[Fixture]:
    databases = await open_databases(layout(folder))
    network = EmbeddedNetwork(databases.global_)
    await bootstrap_network(network, PROJECT)
    row = await databases.global_.fetch_one(ANY, {})
    assert row is not None
    world = SimWorld(folder / "world.db")
    cloud = SmallCloud(databases, world, folder, network)
    try:
        await cloud.start()
        yield Fixture(databases, cloud, row[0])
    finally:
        await cloud.stop()
        world.close()
        await databases.close()


@pytest_asyncio.fixture
async def together(tmp_path: Path) -> AsyncIterator[Fixture]:
    async for made in make(tmp_path, one_file):
        yield made


@pytest_asyncio.fixture
async def apart(tmp_path: Path) -> AsyncIterator[Fixture]:
    async for made in make(tmp_path, three_files):
        yield made


async def test_ports_are_written_where_they_can_be(together: Fixture) -> None:
    uuid = await together.boot()
    server = await together.cloud.settled(uuid, "active")
    assert server is not None and "private" in server.addresses
    assert await count(together.databases.global_, PORTS) == 1
    await together.cloud.delete(uuid)
    await together.cloud.settled(uuid, "deleted")
    assert await count(together.databases.global_, PORTS) == 0
    assert await together.kinds() == [("write", "done"), ("write", "done")]


async def test_ports_are_called_for_where_databases_are_apart(apart: Fixture) -> None:
    uuid = await apart.boot()
    await apart.cloud.settled(uuid, "active")
    await apart.cloud.delete(uuid)
    await apart.cloud.settled(uuid, "deleted")
    assert await count(apart.databases.global_, PORTS) == 0
    assert await apart.kinds() == [("call", "done"), ("call", "done")]


async def test_a_network_that_refuses_ends_the_build(together: Fixture) -> None:
    """The refusal is recorded and what came before it undone, all in the boundary's own transaction."""
    uuid = await together.boot(network_id="44444444-4444-4444-8444-444444444444")
    server = await together.cloud.settled(uuid, "error")
    assert server is not None and server.fault is not None and "could not be found" in server.fault
    assert await count(together.databases.global_, PORTS) == 0
    assert await count(together.databases.global_, "SELECT COUNT(*) FROM allocations") == 0
    assert (await together.kinds())[0][0] == "write"
    await together.cloud.delete(uuid)
    await together.cloud.settled(uuid, "deleted")


async def test_ports_outlive_a_conductor(together: Fixture) -> None:
    """Killed after the commit that made them, its successor finds them recorded and makes no others."""
    uuids = [await together.boot() for _ in range(5)]
    together.cloud = await together.cloud.crash()
    for uuid in uuids:
        await together.cloud.settled(uuid, "active")
    assert await count(together.databases.global_, PORTS) == 5
