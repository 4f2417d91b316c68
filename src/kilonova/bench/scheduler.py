"""What a choice and a claim cost: CPU per choice by number of hosts, durable claims per second by number of tasks."""

from __future__ import annotations

import asyncio
import itertools
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any
from uuid import UUID

from kilonova.db.database import Database
from kilonova.db.migrate import ensure
from kilonova.db.sqlite import SqliteDatabase
from kilonova.model.guest import HostFacts
from kilonova.model.host_facts import HostFact, ServiceFact
from kilonova.model.placement import Claim, Claimed, ClassUsage, HostReport, ProviderState, Ratios
from kilonova.model.scheduling import Request

RESOURCES = {"VCPU": 1, "MEMORY_MB": 512, "DISK_GB": 1}
SUPPORT = '[["x86_64","kvm","hvm"],["x86_64","qemu","hvm"]]'
TRAITS = tuple(f"HW_CPU_X86_{i}" for i in range(20))


def identity(number: int, kind: int = 1) -> str:
    """A stable uuid for the thing `number` of a kind."""
    return str(UUID(int=kind << 96 | number * 0x9E3779B97F4A7C15))


def choose(hosts: int, repeats: int = 300) -> dict[str, float]:
    """CPU of one choice (filters, weights, explanation, hold) among `hosts`, a tenth of them down or full."""
    from kilonova.scheduler import strategies
    from kilonova.scheduler.columns import HostColumns
    from kilonova.scheduler.filters import registry as filters
    from kilonova.scheduler.select import select
    from kilonova.scheduler.weighers import registry as weighers

    columns = HostColumns()
    started = time.process_time()
    for i in range(hosts):
        name, uuid = f"host{i}", identity(i)
        columns.put_service(ServiceFact(name, 1))
        columns.put_host(HostFact(uuid, name, name, "cell1", 1, 8_000_000, SUPPORT, '["HW_CPU_X86_AVX2"]'))
        used = i * 7919 % 61
        usage = {
            "VCPU": ClassUsage(256, used, 64),
            "MEMORY_MB": ClassUsage(262_144, 512 * used, 262_144),
            "DISK_GB": ClassUsage(4_000, 20 * used, 4_000),
        }
        columns.apply(ProviderState(uuid, 1, used, usage))
        columns.set_up(i, i % 10 != 3)
    loaded = time.process_time() - started
    strategy = strategies.build("filter", weighers.build())
    active = filters.build()
    figures = []
    for i in range(repeats):
        request = Request(
            servers=(identity(i, 2),),
            resources=RESOURCES,
            required=frozenset({"HW_CPU_X86_AVX2"}),
            image={"hw_architecture": "x86_64"},
            seed=i,
        )
        before = time.thread_time()
        choice = select(columns, active, strategy, request, 0.0)
        figures.append(time.thread_time() - before)
        assert choice
    # A hundred servers at once.
    many = Request(servers=tuple(identity(i, 3) for i in range(100)), resources=RESOURCES, seed=1)
    before = time.thread_time()
    assert select(columns, active, strategy, many, 0.0)
    return {
        "hosts": hosts,
        "choose_cpu_ms": round(statistics.median(figures) * 1e3, 4),
        "choose_100_cpu_ms": round((time.thread_time() - before) * 1e3, 3),
        "fill_cpu_ms": round(loaded * 1e3, 1),
    }


async def make_hosts(db: Database, count: int) -> list[str]:
    """Record `count` hosts with room for 4,000 small servers each; their uuids."""
    from kilonova.placement.inventory import record_hosts

    facts = HostFacts(
        hostname="", hypervisor_type="sim", hypervisor_version=1_000_000, vcpus=1_000, memory_mb=2_100_000,
        local_gb=8_000, arch="x86_64", supported_instances=(("x86_64", "sim", "hvm"),), traits=TRAITS,
    )  # fmt: skip
    reports = [
        HostReport(uuid=identity(i), host=f"host{i}", node=f"host{i}", cell="cell1", facts=facts, now=1)
        for i in range(count)
    ]

    async def record(tx: Any, part: list[HostReport]) -> None:
        await record_hosts(tx, part, Ratios())

    for at in range(0, count, 500):
        await db.write(record, reports[at : at + 500])
    return [report.uuid for report in reports]


async def claims(db: Database, providers: list[str], tasks: int, seconds: float = 1.0) -> dict[str, float]:
    """Durable claims per second by `tasks` tasks, and CPU of the process per claim."""
    from kilonova.placement.claims import claim

    numbers = itertools.count(time.time_ns())
    done = conflicts = 0
    ends = time.perf_counter() + seconds

    async def work() -> None:
        nonlocal done, conflicts
        while time.perf_counter() < ends:
            number = next(numbers)
            asked = Claim(
                consumer=identity(number, 4), project_id="p", user_id="u", provider=providers[number % len(providers)],
                resources=RESOURCES, now=1,
            )  # fmt: skip
            if isinstance(await db.write(claim, asked), Claimed):
                done += 1
            else:
                conflicts += 1

    wall, cpu = time.perf_counter(), time.process_time()
    async with asyncio.TaskGroup() as group:
        for _ in range(tasks):
            group.create_task(work())
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {
        "tasks": tasks,
        "claims_per_s": round(done / wall),
        "cpu_us": round(cpu / max(done, 1) * 1e6, 1),
        "conflicts": conflicts,
    }


async def load(db: Database) -> dict[str, float]:
    """CPU of reading all hosts into columns."""
    from kilonova.scheduler.service import Scheduler

    scheduler = Scheduler(db)
    before = time.process_time()
    await scheduler.load()
    return {"hosts": len(scheduler.columns), "load_cpu_ms": round((time.process_time() - before) * 1e3, 1)}


async def run() -> dict[str, Any]:
    """All figures of Placement and the scheduler on SQLite (synchronous FULL)."""
    result: dict[str, Any] = {"choose": [choose(hosts) for hosts in (1_000, 10_000, 100_000)]}
    with tempfile.TemporaryDirectory(prefix="kilonova-bench-") as folder:
        path = Path(folder) / "bench.db"
        await ensure(path, {"global"})
        db = SqliteDatabase(path)
        await db.open()
        try:
            providers = await make_hosts(db, 10_000)
            result["load"] = await load(db)
            result["claims"] = [await claims(db, providers[:1000], tasks) for tasks in (1, 8, 64)]
        finally:
            await db.close()
    return result
