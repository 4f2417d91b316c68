"""Choosing and claiming without HTTP: what `kilonova.bench.scheduler` measures, against its targets."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from kilonova.bench.figure import Figure
from kilonova.bench.scheduler import choose, claims, make_hosts
from kilonova.db.migrate import ensure
from kilonova.db.sqlite import SqliteDatabase


async def run() -> list[Figure]:
    small, large = [await asyncio.to_thread(choose, hosts) for hosts in (1_000, 10_000)]
    with tempfile.TemporaryDirectory(prefix="kilonova-bench-") as folder:
        path = Path(folder) / "bench.db"
        await ensure(path, {"global"})
        database = SqliteDatabase(path)
        await database.open()
        try:
            providers = await make_hosts(database, 1_000)
            one, eight, many = [await claims(database, providers, tasks) for tasks in (1, 8, 64)]
        finally:
            await database.close()
    return [
        Figure(name="choose among 1,000: CPU", value=small["choose_cpu_ms"], unit="ms", below=0.15),
        Figure(name="choose among 10,000: CPU", value=large["choose_cpu_ms"], unit="ms", below=0.4),
        Figure(name="durable claims, 1 task", value=one["claims_per_s"], unit="/s"),
        Figure(name="durable claims, 8 tasks", value=eight["claims_per_s"], unit="/s", above=3000),
        Figure(name="durable claims, 64 tasks", value=many["claims_per_s"], unit="/s"),
        Figure(name="claim, 8 tasks: CPU", value=eight["cpu_us"], unit="us"),
        Figure(name="conflicts", value=one["conflicts"] + eight["conflicts"] + many["conflicts"], below=1),
    ]
