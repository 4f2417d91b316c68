"""The scheduler over a database: loads, follows changes, finds what it missed, and never collides with itself."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from kilonova.db.changes import emit
from kilonova.db.database import Database, Tx
from kilonova.db.queries import services
from kilonova.db.statement import Statement
from kilonova.model.placement import (
    AGGREGATE_CHANGED,
    SERVICE_CHANGED,
    Claim,
    Claimed,
    HostReport,
    Ratios,
)
from kilonova.model.scheduling import Choice, demand
from kilonova.placement.inventory import record_host
from kilonova.placement.port import EmbeddedPlacement
from kilonova.scheduler.service import Scheduler, SchedulerSettings
from placement.books import check_books, facts, provider, report
from scheduler.clouds import request

SET_DISABLED = Statement(
    "UPDATE services SET disabled = :disabled, generation = generation + 1 WHERE host = :host"
)
ADD_AGGREGATE = Statement(
    """INSERT INTO aggregates (uuid, number, name, availability_zone, metadata, generation, created_at, updated_at)
       VALUES ('agg-1', 1, 'east', 'east', '{"availability_zone":"east"}', 1, 1, NULL)"""
)
ADD_MEMBER = Statement("INSERT INTO aggregate_hosts (aggregate, host) VALUES ('agg-1', :host)")


async def add_host(db: Database, number: int, **changes: Any) -> None:
    async def work(tx: Tx, each: HostReport) -> None:
        await record_host(tx, each, Ratios())
        await services.enter(tx, each.host, "nova-compute", "cell1", 1)

    await db.write(work, report(number, **changes))


async def change(db: Database, kind: str, subject: str, *work: tuple[Statement, dict[str, Any]]) -> None:
    async def go(tx: Tx, _: None) -> None:
        for statement, params in work:
            await tx.execute(statement, params)
        await emit(tx, kind, subject, "", 1, "{}", 1)

    await db.write(go, None)


@pytest.fixture
async def scheduler(db: Database) -> AsyncIterator[Scheduler]:
    """A running scheduler; its hosts need no beats for a while."""
    for number in (1, 2, 3):
        await add_host(db, number, memory_mb=512 + 2048)
    made = Scheduler(db, SchedulerSettings())
    task = asyncio.create_task(made.run())
    yield made
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


def claims_of(choice: Choice, resources: dict[str, int]) -> list[Claim]:
    return [
        Claim(consumer=p.server, project_id="p", user_id="u", provider=p.host.uuid, resources=resources, now=1)
        for p in choice.places
    ]


async def until(scheduler: Scheduler, holds: Any, **asked: Any) -> Choice:
    """Ask until the answer is as wanted; every ask is a poke, not a wait."""
    deadline = time.monotonic() + 5
    while True:
        choice = await scheduler.choose(request("probe", **asked))
        scheduler.refused(("probe",))
        if holds(choice):
            return choice
        assert time.monotonic() < deadline, choice.explanation.for_admin()
        scheduler.poke()
        await asyncio.sleep(0)


async def test_12_places_for_16_servers(scheduler: Scheduler, db: Database) -> None:
    placement = EmbeddedPlacement(db)
    resources = request().resources

    async def boot(number: int) -> Choice:
        choice = await scheduler.choose(request(f"server-{number}", seed=number))
        if choice:
            assert isinstance(await placement.claim(claims_of(choice, resources)), Claimed), "conflict with itself"
        return choice

    choices = await asyncio.gather(*(boot(number) for number in range(16)))
    assert sum(map(bool, choices)) == 12
    refused = next(choice for choice in choices if not choice)
    assert refused.explanation.culprit is not None
    assert refused.explanation.culprit.name == "CapacityFilter (MEMORY_MB)"
    await check_books(db)
    await placement.release("server-0" if choices[0] else "server-1", 1)
    assert await until(scheduler, bool)


async def test_all_or_none_for_one_request(scheduler: Scheduler) -> None:
    choice = await scheduler.choose(request(*(f"s{i}" for i in range(13))))
    assert not choice
    assert choice.explanation.places == 12
    assert choice.explanation.for_owner() == (
        "No valid host was found. There is not room for all 13 servers at once."
    )
    assert await scheduler.choose(request(*(f"s{i}" for i in range(12))))


async def test_services_zones_and_new_hosts_are_seen(scheduler: Scheduler, db: Database) -> None:
    assert await until(scheduler, lambda c: c.places[0].host.zone == "nova")
    for number in (1, 2, 3):
        host = f"host{number}"
        uuid = services.service_uuid(host, "nova-compute")
        await change(db, SERVICE_CHANGED, uuid, (SET_DISABLED, {"disabled": 1, "host": host}))
    assert (await until(scheduler, lambda c: not c)).explanation.culprit is not None
    await add_host(db, 9)
    choice = await until(scheduler, bool)
    assert choice.places[0].host.host == "host9"
    await change(db, AGGREGATE_CHANGED, "agg-1", (ADD_AGGREGATE, {}), (ADD_MEMBER, {"host": "host9"}))
    assert (await until(scheduler, lambda c: c.places[0].host.zone == "east")).places[0].host.uuid == provider(9)


async def test_a_service_that_is_deleted_and_entered_anew(scheduler: Scheduler, db: Database) -> None:
    """The new row's generation begins at 1 and yet counts."""

    async def delete(tx: Tx, host: str) -> bool:
        return await services.delete(tx, services.service_uuid(host, "nova-compute"), 2)

    async def enter(tx: Tx, host: str) -> bool:
        return await services.enter(tx, host, "nova-compute", "cell1", 3)

    await until(scheduler, bool)
    for number in (1, 2, 3):
        uuid = services.service_uuid(f"host{number}", "nova-compute")
        await change(db, SERVICE_CHANGED, uuid, (SET_DISABLED, {"disabled": 0, "host": f"host{number}"}))
    for number in (1, 2, 3):
        assert await db.write(delete, f"host{number}")
    assert not await db.write(delete, "host1")
    await until(scheduler, lambda c: not c)
    assert await db.write(enter, "host2")
    assert not await db.write(enter, "host2")
    assert (await until(scheduler, bool)).places[0].host.host == "host2"


async def test_no_decision_sees_a_host_half(scheduler: Scheduler, db: Database) -> None:
    """While a host is read again it is there as a whole or not at all."""
    await until(scheduler, bool)
    await add_host(db, 9)
    refreshing = asyncio.create_task(scheduler.refresh())
    while not refreshing.done():
        await asyncio.sleep(0)
        if provider(9) in scheduler.columns.row:
            row = scheduler.columns.row[provider(9)]
            assert scheduler.columns.enabled[row] and scheduler.columns.classes["VCPU"].capacity[row] > 0
    await refreshing
    assert provider(9) in scheduler.columns.row


async def test_the_comparison_finds_what_no_change_told(scheduler: Scheduler, db: Database) -> None:
    await until(scheduler, bool)

    async def silently(tx: Tx, _: None) -> None:
        await tx.execute(Statement("UPDATE inventories SET used = capacity WHERE provider <> :p"), {"p": provider(2)})
        await tx.execute(Statement("UPDATE resource_providers SET revision = revision + 1"), {})
        await tx.execute(Statement("DELETE FROM hosts WHERE uuid = :p"), {"p": provider(3)})

    await db.write(silently, None)
    assert await scheduler.compare_slice() is False
    assert len(scheduler.columns) == 2
    choice = await scheduler.choose(request("probe"))
    assert choice.places[0].host.uuid == provider(2)
    assert choice.places[0].alternates == ()


async def test_lost_changes_mean_reading_anew(scheduler: Scheduler, db: Database) -> None:
    await until(scheduler, bool)
    kept = await scheduler.choose(request("kept"))
    await add_host(db, 4)

    async def forget(tx: Tx, _: None) -> None:
        await tx.execute(Statement("UPDATE changes SET position = position + 1000"), {})

    await db.write(forget, None)
    await scheduler.refresh()
    assert len(scheduler.columns) == 4
    assert kept
    assert len(scheduler.columns.holds) == 1


async def test_decisions_wait_for_the_columns(db: Database) -> None:
    await add_host(db, 1)
    scheduler = Scheduler(db)
    scheduler.beat(("host1",), "process", 1)
    asked = asyncio.ensure_future(scheduler.choose(request()))
    await scheduler.load()
    assert (await asked).places[0].host.host == "host1"


async def test_a_host_without_beats_is_down_when_no_grace_is_given(db: Database) -> None:
    await add_host(db, 1)
    scheduler = Scheduler(db, SchedulerSettings(grace_s=0.0))
    await scheduler.load()
    assert not await scheduler.choose(request())
    scheduler.beat(("host1",), "process", 1)
    assert await scheduler.choose(request())
    scheduler.host_down("host1")
    assert not await scheduler.choose(request("again"))


def test_what_a_flavor_asks_for() -> None:
    assert facts().vcpus == 4
    extra = {"resources:VCPU": "0", "resources:CUSTOM_GOLD": "2", "trait:A": "required", "trait:B": "forbidden"}
    assert demand(vcpus=2, memory_mb=512, disk_gb=0, extra_specs=extra, image={"trait:C": "required"}) == (
        {"MEMORY_MB": 512, "CUSTOM_GOLD": 2},
        frozenset({"A", "C"}),
        frozenset({"B"}),
    )
