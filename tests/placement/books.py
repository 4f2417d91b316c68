"""Hosts, claims and the check that the books balance."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from kilonova.db.database import Database
from kilonova.db.statement import Statement
from kilonova.model.guest import HostFacts
from kilonova.model.placement import Claim, HostReport
from kilonova.placement.inventory import Recorded

RecordHost = Callable[..., Awaitable[Recorded]]
BALANCE = Statement(
    """SELECT i.provider, i.resource_class, i.used, i.capacity, CAST(COALESCE(SUM(a.amount), 0) AS BIGINT)
       FROM inventories i LEFT JOIN allocations a ON a.provider = i.provider AND a.resource_class = i.resource_class
       GROUP BY i.provider, i.resource_class, i.used, i.capacity"""
)
COUNTS = Statement(
    """SELECT p.uuid, p.consumers, (SELECT COUNT(DISTINCT a.consumer) FROM allocations a WHERE a.provider = p.uuid)
       FROM resource_providers p"""
)
GENERATIONS = Statement("SELECT uuid, revision FROM resource_providers")
CONSUMERS = Statement("SELECT uuid FROM consumers")


def provider(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012d}"


def consumer(number: int) -> str:
    return f"11111111-0000-4000-8000-{number:012d}"


def facts(**changes: Any) -> HostFacts:
    base: dict[str, Any] = {
        "hostname": "h", "hypervisor_type": "sim", "hypervisor_version": 1_000_000, "vcpus": 4, "memory_mb": 8_704,
        "local_gb": 100, "arch": "x86_64", "traits": ("HW_CPU_X86_AVX2",),
    }  # fmt: skip
    return HostFacts(**(base | changes))


def report(number: int, now: int = 1, **changes: Any) -> HostReport:
    name = f"host{number}"
    return HostReport(uuid=provider(number), host=name, node=name, cell="cell1", facts=facts(**changes), now=now)


def claim_for(number: int, where: int = 1, now: int = 2, **resources: int) -> Claim:
    wanted = resources or {"VCPU": 1, "MEMORY_MB": 512, "DISK_GB": 1}
    return Claim(
        consumer=consumer(number), project_id="p", user_id="u", provider=provider(where), resources=wanted, now=now
    )


async def check_books(db: Database, *, over: bool = False) -> None:
    """`used` = sum of allocations <= capacity; consumers are counted; no consumer without allocations."""
    for where, name, used, capacity, total in await db.fetch(BALANCE, {}):
        assert used == total, (where, name)
        assert over or used <= capacity, (where, name)
    for where, counted, real in await db.fetch(COUNTS, {}):
        assert counted == real, where
    held = await db.fetch(Statement("SELECT DISTINCT consumer FROM allocations"), {})
    assert sorted(held) == sorted(await db.fetch(CONSUMERS, {}))
