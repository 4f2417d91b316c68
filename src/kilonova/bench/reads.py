"""Reading over HTTP: one server, and a page of a thousand with many more in the table."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import time

from kilonova.bench.figure import Figure, quantile
from kilonova.bench.filling import fill
from kilonova.bench.served import ServedCloud

CONNECTIONS = 16
LIST = "/compute/v2.1/servers/detail?limit=1000"


async def one(cloud: ServedCloud, uuid: str, seconds: float = 2.0) -> tuple[float, float]:
    """(rate a second, CPU seconds a request) of GET /servers/{id} on 16 connections."""
    path = f"/compute/v2.1/servers/{uuid}"
    wrk = shutil.which("wrk")
    cpu = cloud.cpu()
    if wrk is not None:
        words = [
            wrk, "-t1", f"-c{CONNECTIONS}", f"-d{max(1, round(seconds))}s", "-H", f"X-Auth-Token: {cloud.token}",
            "-H", "OpenStack-API-Version: compute 2.104", f"http://127.0.0.1:{cloud.port}{path}",
        ]  # fmt: skip
        said = (await asyncio.to_thread(subprocess.run, words, capture_output=True, check=True)).stdout.decode()
        found = re.search(r"(\d+) requests in", said)
        rate = re.search(r"Requests/sec:\s+([\d.]+)", said)
        assert found and rate and "Non-2xx" not in said, said
        return float(rate[1]), (cloud.cpu() - cpu) / int(found[1])
    count, ends, started = 0, time.perf_counter() + seconds, time.perf_counter()

    async def ask() -> None:
        nonlocal count
        connection = cloud.connect()
        while time.perf_counter() < ends:
            status, _, _ = await connection.send("GET", path)
            assert status == 200, status
            count += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(CONNECTIONS):
            group.create_task(ask())
    return count / (time.perf_counter() - started), (cloud.cpu() - cpu) / count


async def page(cloud: ServedCloud, times: int = 25) -> tuple[list[float], float]:
    """(seconds of each, CPU seconds a page) of GET /servers/detail with 1,000 servers."""
    connection, taken = cloud.connect(), []
    await connection.send("GET", LIST)
    cpu = cloud.cpu()
    for _ in range(times):
        started = time.perf_counter()
        status, _, body = await connection.send("GET", LIST)
        taken.append(time.perf_counter() - started)
        assert status == 200 and len(body) > 1_000_000, (status, len(body))
    return taken, (cloud.cpu() - cpu) / times


async def meanwhile(cloud: ServedCloud, uuid: str, times: int = 25) -> list[float]:
    """Seconds of GETs of one server, 200 a second, while pages are read one after the other."""
    taken: list[float] = []
    reading = asyncio.create_task(page(cloud, times))
    connection = cloud.connect()
    while not reading.done():
        started = time.perf_counter()
        await connection.send("GET", f"/compute/v2.1/servers/{uuid}")
        taken.append(time.perf_counter() - started)
        await asyncio.sleep(0.005)
    await reading
    return taken


async def run() -> list[Figure]:
    async with ServedCloud(50) as cloud:
        await cloud.populate(1000)
        uuid = (await cloud.servers(cloud.connect()))[500]["id"]
        await one(cloud, uuid, 0.5)
        gets = [await one(cloud, uuid) for _ in range(3)]
        alone, alone_cpu = await page(cloud)
        other = await meanwhile(cloud, uuid)
        await cloud.stop()
        await asyncio.to_thread(fill, cloud.folder / "kilonova.db", 99_000)
        await cloud.start()
        full, full_cpu = await page(cloud)
        full_one = await one(cloud, uuid, 1.0)
    p50 = quantile(alone, 0.5) * 1e3
    tool = "wrk" if shutil.which("wrk") else "own client"
    return [
        Figure(name="GET one: rate", value=max(g[0] for g in gets), unit="/s", above=6000, note=f"{tool}, best of 3"),
        Figure(name="GET one: CPU", value=min(g[1] for g in gets) * 1e6, unit="us", below=120, note="best of 3"),
        Figure(name="page of 1,000: p50", value=p50, unit="ms", below=35),
        Figure(name="page of 1,000: CPU", value=alone_cpu * 1e3, unit="ms", below=30),
        Figure(name="GET one beside pages: p99", value=quantile(other, 0.99) * 1e3, unit="ms", below=20),
        Figure(
            name="page, 100,000 in the table: p50", value=quantile(full, 0.5) * 1e3, unit="ms", below=p50 * 1.5,
            note="25,000 of them in the same project",
        ),
        Figure(name="page, 100,000 in the table: CPU", value=full_cpu * 1e3, unit="ms"),
        Figure(name="GET one, 100,000 in the table: CPU", value=full_one[1] * 1e6, unit="us"),
    ]  # fmt: skip
