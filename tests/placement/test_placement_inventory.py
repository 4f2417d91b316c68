"""What hosts report: written when it is new, and only then."""

from __future__ import annotations

import pytest

from kilonova.db.database import Database, Tx
from kilonova.db.statement import Statement
from kilonova.model.placement import HostReport, Ratios
from kilonova.placement import claims
from kilonova.placement.inventory import HostTaken, inventories_from, record_host
from placement.books import GENERATIONS, RecordHost, check_books, claim_for, facts, provider, report

TRAITS = Statement("SELECT trait FROM provider_traits ORDER BY trait")
COPY = Statement("SELECT traits FROM resource_providers")
CAPACITY = Statement("SELECT resource_class, capacity FROM inventories ORDER BY resource_class")


def test_ratios_and_reserve_as_nova_starts_with() -> None:
    found = inventories_from(facts(vcpus=8, memory_mb=4096, local_gb=0), Ratios())
    assert {name: inventory.capacity for name, inventory in found.items()} == {"VCPU": 32, "MEMORY_MB": 3584}
    assert found["VCPU"] == (8, 0, 1, 8, 1, 4.0)


async def test_the_same_report_again_changes_nothing(db: Database, record: RecordHost) -> None:
    assert (await record(1)).new == (provider(1),)
    before = await db.fetch(GENERATIONS, {})
    again = await record(1)
    assert (again.new, again.changed) == ((), ())
    assert await db.fetch(GENERATIONS, {}) == before


async def test_a_changed_total_raises_the_generation_once(db: Database, record: RecordHost) -> None:
    await record(1)
    ((_, before),) = await db.fetch(GENERATIONS, {})
    assert (await record(1, memory_mb=16_896, vcpus=8)).changed == (provider(1),)
    assert await db.fetch(GENERATIONS, {}) == [(provider(1), before + 1)]
    assert await db.fetch(CAPACITY, {}) == [("DISK_GB", 100), ("MEMORY_MB", 16_384), ("VCPU", 32)]


async def test_free_disk_space_alone_touches_no_provider(db: Database, record: RecordHost) -> None:
    await record(1, free_disk_gb=50)
    before = await db.fetch(GENERATIONS, {})
    assert (await record(1, free_disk_gb=49)).changed == (provider(1),)
    assert await db.fetch(GENERATIONS, {}) == before


async def test_a_host_may_shrink_below_its_use_and_grow_no_more(db: Database, record: RecordHost) -> None:
    await record(1)
    await db.write(claims.claim, claim_for(1, MEMORY_MB=8_000))
    await record(1, memory_mb=4_608)
    await check_books(db, over=True)
    assert not isinstance(await db.write(claims.claim, claim_for(2)), claims.Claimed)


async def test_traits_come_and_go_with_the_report(db: Database, record: RecordHost) -> None:
    await record(1, traits=("HW_CPU_X86_AVX2", "CUSTOM_GOLD"))
    await record(1, traits=("CUSTOM_GOLD", "HW_CPU_X86_SSE42"))
    assert await db.fetch(TRAITS, {}) == [("CUSTOM_GOLD",), ("HW_CPU_X86_SSE42",)]
    assert await db.fetch(COPY, {}) == [('["CUSTOM_GOLD","HW_CPU_X86_SSE42"]',)]


async def test_an_operators_ratio_stays(db: Database, record: RecordHost) -> None:
    await record(1)

    async def by_hand(tx: Tx, _: None) -> None:
        await tx.execute(
            Statement("UPDATE inventories SET allocation_ratio = :r WHERE resource_class = :c"), {"r": 8.0, "c": "VCPU"}
        )

    await db.write(by_hand, None)
    await record(1, vcpus=2)
    assert ("VCPU", 16) in await db.fetch(CAPACITY, {})


async def test_another_host_of_the_same_node_is_refused(db: Database, record: RecordHost) -> None:
    await record(1)
    twin = HostReport(uuid=provider(2), host="host1", node="host1", cell="cell1", facts=facts(), now=1)

    async def work(tx: Tx, each: HostReport) -> None:
        await record_host(tx, each, Ratios())

    with pytest.raises(HostTaken):
        await db.write(work, twin)
    assert len(await db.fetch(GENERATIONS, {})) == 1


async def test_hosts_are_numbered(db: Database, record: RecordHost) -> None:
    for number in (3, 1, 2):
        await record(number)
    rows = await db.fetch(Statement("SELECT number FROM hosts ORDER BY number"), {})
    assert rows == [(1,), (2,), (3,)]
    assert report(1).uuid == provider(1)
