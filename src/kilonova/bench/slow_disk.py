"""A create on a slow disk: 5 ms added to every commit, and how many commits come one after the other.

Here the cloud runs in this process, so that its database can be slowed down and its commits counted.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

from kilonova.bench.client import login
from kilonova.bench.figure import Figure, quantile
from kilonova.bench.served import ServedCloud, free_port
from kilonova.cli.compose.plan import prepare
from kilonova.cli.compose.server import bind
from kilonova.cli.compose.whole import Cloud
from kilonova.config import load
from kilonova.db.sqlite import SqliteDatabase

DELAY_S = 0.005


class InsideCloud(ServedCloud):
    """The same interface over a cloud in this process; CPU is not told apart from the client's."""

    cloud: Cloud

    @property
    def database(self) -> SqliteDatabase:
        """Everything's database."""
        return cast("SqliteDatabase", self.cloud.databases.global_)


@asynccontextmanager
async def inside(sim_hosts: int = 10) -> AsyncIterator[InsideCloud]:
    """A whole cloud on this loop, removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="kilonova-bench-"))
    quotas = {f"quota.{name}": -1 for name in ("instances", "cores", "ram")}
    port = free_port()
    own = {"kilonova.port": port, "kilonova.driver": "sim", "kilonova.sim_hosts": sim_hosts}
    settings = load([], {}, {**own, **quotas})
    made = InsideCloud.__new__(InsideCloud)
    made.folder, made.sim_hosts, made.driver, made.port = folder, sim_hosts, "sim", port
    made._refs, made._connections = {}, []
    try:
        cloud = made.cloud = Cloud(prepare(folder, settings, tls=False), settings, bind("127.0.0.1", port))
        await cloud.start()
        try:
            assert await cloud.hosts_ready(30)
            made.token = await login("127.0.0.1", port, made.auth())
            yield made
        finally:
            for connection in made._connections:
                connection.close()
            await cloud.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


async def create_on(cloud: InsideCloud, times: int, delay_s: float) -> tuple[list[float], list[int]]:
    """(seconds to ACTIVE, commits) of each of `times` creates, one after the other, with slow commits."""
    connection, taken, commits = cloud.connect(), [], []
    database = cloud.database
    async with cloud.events() as events:
        await events.until(await cloud.create(connection), "active")
        database.commit_delay_s = delay_s
        try:
            for _ in range(times):
                await asyncio.sleep(0.02)  # whatever the one before left behind is committed
                started, before = time.perf_counter(), database.commits
                await events.until(await cloud.create(connection), "active")
                taken.append(time.perf_counter() - started)
                commits.append(database.commits - before)
        finally:
            database.commit_delay_s = 0.0
    return taken, commits


async def run() -> list[Figure]:
    async with inside() as cloud:
        taken, commits = await create_on(cloud, 25, DELAY_S)
    return [
        Figure(name="commits in a row a create", value=quantile(commits, 0.5), below=6, note="median"),
        Figure(name="alone, +5 ms a commit: p50", value=quantile(taken, 0.5) * 1e3, unit="ms", below=40),
    ]
