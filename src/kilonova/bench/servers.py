"""Creating and deleting over HTTP, to the event stream: alone, eight at a time, a hundred a request."""

from __future__ import annotations

import asyncio
import time

from kilonova.bench.figure import Figure, quantile
from kilonova.bench.served import ServedCloud

AT_ONCE = 8
DELETED = "deleted"


class Load:
    """Creates and deletes on one cloud, measured."""

    def __init__(self, cloud: ServedCloud) -> None:
        self.cloud = cloud

    async def alone(self, times: int) -> list[float]:
        """Seconds from POST to ACTIVE on the event stream, one after the other."""
        connection, taken = self.cloud.connect(), []
        async with self.cloud.events() as events:
            for _ in range(times):
                started = time.perf_counter()
                await events.until(await self.cloud.create(connection), "active")
                taken.append(time.perf_counter() - started)
        return taken

    async def creates(self, count: int) -> tuple[float, float, list[str]]:
        """(wall seconds, CPU seconds of the server, the servers) of `count` creates, eight at a time, to ACTIVE."""
        made: list[str] = []
        left = iter(range(count))
        async with self.cloud.events() as events:

            async def work() -> None:
                connection = self.cloud.connect()
                for _ in left:
                    uuid = await self.cloud.create(connection)
                    await events.until(uuid, "active")
                    made.append(uuid)

            wall, cpu = time.perf_counter(), self.cloud.cpu()
            async with asyncio.TaskGroup() as group:
                for _ in range(AT_ONCE):
                    group.create_task(work())
            return time.perf_counter() - wall, self.cloud.cpu() - cpu, made

    async def deletes(self, servers: list[str]) -> tuple[float, float]:
        """(wall, CPU of the server) of deleting them, eight at a time, until the stream says so."""
        left = iter(servers)
        async with self.cloud.events() as events:

            async def work() -> None:
                connection = self.cloud.connect()
                for uuid in left:
                    await connection.json("DELETE", f"/compute/v2.1/servers/{uuid}")
                    await events.until(uuid, DELETED)

            wall, cpu = time.perf_counter(), self.cloud.cpu()
            async with asyncio.TaskGroup() as group:
                for _ in range(AT_ONCE):
                    group.create_task(work())
            return time.perf_counter() - wall, self.cloud.cpu() - cpu

    async def many(self, count: int = 100) -> float:
        """Seconds from one POST with min_count to all ACTIVE on the event stream."""
        connection = self.cloud.connect()
        before = {each["id"] for each in await self.cloud.servers(connection)}
        async with self.cloud.events() as events:
            started = time.perf_counter()
            await connection.json("POST", "/compute/v2.1/servers", await self.cloud.server_body(count))
            new = {each["id"] for each in await self.cloud.servers(connection)} - before
            async with asyncio.TaskGroup() as group:
                for uuid in new:
                    group.create_task(events.until(uuid, "active"))
            taken = time.perf_counter() - started
        assert len(new) == count, len(new)
        return taken


async def run() -> list[Figure]:
    async with ServedCloud(50) as cloud:
        load = Load(cloud)
        _, _, warm = await load.creates(100)
        await load.deletes(warm)
        alone = await load.alone(50)
        create_rate, create_cpu, delete_rate, delete_cpu = [], [], [], []
        for _ in range(3):
            wall, cpu, made = await load.creates(200)
            create_rate.append(200 / wall)
            create_cpu.append(cpu / 200 * 1e3)
            wall, cpu = await load.deletes(made)
            delete_rate.append(200 / wall)
            delete_cpu.append(cpu / 200 * 1e3)
        hundred = [await load.many() for _ in range(3)]
    spread = " ".join(f"{each:.2f}" for each in create_cpu)
    return [
        Figure(name="alone, POST to ACTIVE p50", value=quantile(alone, 0.5) * 1e3, unit="ms", below=10),
        Figure(name="alone, p95", value=quantile(alone, 0.95) * 1e3, unit="ms", below=20),
        Figure(name="200 at 8: rate", value=max(create_rate), unit="/s", above=300, note="best of 3"),
        Figure(name="200 at 8: CPU a server", value=min(create_cpu), unit="ms", below=3, note=f"best of 3: {spread}"),
        Figure(name="min_count=100", value=min(hundred), unit="s", below=0.2, note="best of 3"),
        Figure(name="delete: rate", value=max(delete_rate), unit="/s"),
        Figure(name="delete: CPU a server", value=min(delete_cpu), unit="ms", below=min(create_cpu)),
    ]
