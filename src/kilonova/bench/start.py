"""What it costs to be there: the second start on 10,000 sim hosts and 1,000 servers, and doing nothing afterwards."""

from __future__ import annotations

import asyncio
import statistics
import time
from contextlib import suppress

from kilonova.bench.figure import Figure
from kilonova.bench.served import ServedCloud

HOSTS, SERVERS = 10_000, 1_000
SETTLE_S = 14.0
"""Ten thousand hosts' first full reports are spread over ten seconds."""


async def first_list(cloud: ServedCloud, token: str) -> tuple[float, float]:
    """(wall seconds, CPU seconds) from exec to the first answered `server list`."""
    started = cloud.launch()
    connection = cloud.connect(token)
    deadline = time.monotonic() + 30
    while True:
        with suppress(OSError):
            status, _, _ = await connection.send("GET", "/compute/v2.1/servers")
            assert status == 200, status
            return time.perf_counter() - started, cloud.cpu()
        await cloud.wait_a_moment(deadline)


async def run() -> list[Figure]:
    async with ServedCloud(HOSTS) as cloud:
        await cloud.populate(SERVERS)
        token = cloud.token
        walls, cpus = [], []
        for _ in range(3):
            await cloud.stop()
            wall, cpu = await first_list(cloud, token)
            walls.append(wall)
            cpus.append(cpu)
        await asyncio.sleep(SETTLE_S)
        before = cloud.cpu()
        await asyncio.sleep(5.0)
        idle = (cloud.cpu() - before) / 5.0 * 100
        rss = cloud.rss_mb()
    what = f"{HOSTS:,} sim hosts, {SERVERS:,} servers"
    return [
        Figure(name="exec to first answer", value=statistics.median(walls) * 1e3, unit="ms", below=1000, note=what),
        Figure(name="its CPU", value=statistics.median(cpus) * 1e3, unit="ms", below=600),
        Figure(name="idle memory", value=rss, unit="MB", below=100, note="resident"),
        Figure(name="idle CPU", value=idle, unit="% of a core", below=3),
    ]
