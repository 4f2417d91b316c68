"""How long the event loop keeps others waiting while servers are made and pages read.

The server's own watchdog measures, set to look every millisecond; the CPU lag is what the loop itself
computed in one turn, the wall lag includes what the machine's other processes took.
"""

from __future__ import annotations

import asyncio
import re
import time

from kilonova.bench.figure import Figure
from kilonova.bench.reads import LIST
from kilonova.bench.served import ServedCloud
from kilonova.bench.servers import Load

_SETTINGS = "[watchdog]\nthreshold_ms = 1\n"
CPU_LAG, WALL_LAG = "kilonova_loop_cpu_lag_seconds", "kilonova_loop_lag_seconds"
Buckets = list[tuple[float, float]]


async def buckets(cloud: ServedCloud, name: str) -> Buckets:
    """(upper bound in seconds, how many samples were at most that) of a histogram."""
    found = re.findall(rf'^{name}_bucket{{le="([^"]+)"}} (\S+)$', await cloud.metrics(), re.MULTILINE)
    return [(float(bound.replace("+Inf", "inf")), float(count)) for bound, count in found]


def percentile(before: Buckets, after: Buckets, share: float) -> float:
    """The bound under which `share` of the samples between two looks are, between bounds by proportion."""
    counts = [(bound, now - then) for (bound, now), (_, then) in zip(after, before, strict=True)]
    wanted = counts[-1][1] * share
    low = below = 0.0
    for bound, count in counts:
        if count >= wanted:
            part = (wanted - below) / (count - below) if count > below else 1.0
            return low + (min(bound, 10.0) - low) * part
        low, below = bound, count
    return low


async def under_load(cloud: ServedCloud, seconds: float) -> tuple[Buckets, Buckets, Buckets, Buckets]:
    """(CPU, wall) histograms before and after `seconds` of creates, deletes and pages."""
    load = Load(cloud)
    await cloud.populate(1000)
    cpu, wall = await buckets(cloud, CPU_LAG), await buckets(cloud, WALL_LAG)
    ends = time.monotonic() + seconds

    async def churn() -> None:
        while time.monotonic() < ends:
            _, _, made = await load.creates(50)
            await load.deletes(made)

    async def pages() -> None:
        connection = cloud.connect()
        while time.monotonic() < ends:
            await connection.send("GET", LIST)
            await asyncio.sleep(0.2)

    async with asyncio.TaskGroup() as group:
        group.create_task(churn())
        group.create_task(pages())
    return cpu, wall, await buckets(cloud, CPU_LAG), await buckets(cloud, WALL_LAG)


async def run(seconds: float = 8.0) -> list[Figure]:
    async with ServedCloud(50, _SETTINGS) as cloud:
        cpu, wall, cpu_after, wall_after = await under_load(cloud, seconds)
    samples = int(cpu_after[-1][1] - cpu[-1][1])
    return [
        Figure(
            name="loop lag, CPU: p99.9", value=percentile(cpu, cpu_after, 0.999) * 1e3, unit="ms", below=5,
            note=f"{samples} samples",
        ),
        Figure(name="loop lag, CPU: p99", value=percentile(cpu, cpu_after, 0.99) * 1e3, unit="ms"),
        Figure(name="loop lag, wall: p99", value=percentile(wall, wall_after, 0.99) * 1e3, unit="ms"),
    ]  # fmt: skip
