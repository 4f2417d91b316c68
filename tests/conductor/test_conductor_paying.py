"""Debts are paid in the end, once, and keep what they still use until then (contracts: 1.10)."""

from __future__ import annotations

import asyncio

import pytest

from conductor.small_cloud import count, small_cloud
from kilonova.conductor.errors import Refused, Transient
from kilonova.db.statement import Statement
from kilonova.model.command import Method


@pytest.fixture
async def cloud(databases, tmp_path):
    async with small_cloud(databases, tmp_path) as made:
        for executor in made.conductor.executors:
            executor.budget_scale = 0.002
        yield made


def cell(cloud):
    return cloud.databases.cells["cell1"]


async def pay(cloud):
    for reconciler in cloud.conductor.reconcilers:
        await reconciler.pay()


async def still_owed(cloud):
    return sum([await count(d, "SELECT COUNT(*) FROM debts WHERE state = 'open'") for d in cloud.databases.all()])


async def failed_build_with_a_debt(cloud):
    """A build that spawned, was told that it did not, and could not take it back."""

    async def hook(call, go):
        if call.method == Method.SPAWN:
            await go()
            raise Refused("no", "image_invalid")
        if call.method == Method.DESTROY:
            raise Transient("away", "unreachable")
        return await go()

    cloud.tap.hook = hook
    (uuid,) = await cloud.create()
    await cloud.settled(uuid, "error")
    cloud.tap.hook = None
    assert await still_owed(cloud) == 1
    return uuid


async def test_a_debt_that_a_host_refused_is_asked_for_anew(cloud):
    """The host keeps a definite refusal under its key: each payment has a key of its own."""
    (uuid,) = await cloud.create()
    server = await cloud.settled(uuid, "active")
    rule = cloud.world.faults.set(host=server.host, method="ensure_absent", action="refused")
    await cloud.delete(uuid)
    await cloud.settled(uuid, "deleted")
    await pay(cloud)
    assert await still_owed(cloud) == 1
    cloud.world.faults.remove(rule)
    await pay(cloud)
    assert await still_owed(cloud) == 0
    assert await cloud.audit() == []


async def test_a_debt_of_a_server_deleted_since_is_not_fenced_for_ever(cloud):
    uuid = await failed_build_with_a_debt(cloud)
    await cloud.delete(uuid)
    await cloud.settled(uuid, "deleted")
    await pay(cloud)
    assert await still_owed(cloud) == 0
    assert await cloud.audit() == []


async def test_a_debt_at_a_host_that_a_reset_fenced_is_paid_in_the_end(cloud):
    uuid = await failed_build_with_a_debt(cloud)
    await cloud.reset(uuid, "error")
    await cloud.settled(uuid, "error")
    await pay(cloud)
    await cloud.delete(uuid)
    await cloud.settled(uuid, "deleted")
    await pay(cloud)
    assert await still_owed(cloud) == 0
    assert await cloud.audit() == []


async def test_what_debts_share_is_kept_until_the_last_is_paid(cloud):
    """A server may have left things on two hosts: its address must not go while one of them may still use it."""
    (uuid,) = await cloud.create()
    server = await cloud.settled(uuid, "active")
    other = next(name for name in cloud.names if name != server.host)
    down = {server.host, other}

    async def hook(call, go):
        if call.port.removeprefix("host:") in down:
            raise Transient("away", "unreachable")
        return await go()

    cloud.tap.hook = hook

    async def plant(tx, _):
        """As if an operation that this delete supersedes had been at work on the other host."""
        await tx.execute(
            Statement("""INSERT INTO operations SELECT 'planted', 'start', 1, 'running', target, number + 1, 'x', 1,
                         inputs, NULL, NULL, NULL, 1, 0, 0, NULL, request_id, user_id, project_id, created_at,
                         updated_at, NULL FROM operations WHERE target = :uuid
                         AND story = 'build'"""),
            {"uuid": uuid},
        )  # fmt: skip
        await tx.execute(
            Statement("""INSERT INTO steps SELECT 'planted', name, item, seq, kind, state, digest, args, output, NULL,
                         error, attempts, spent_us, :port, started_at, finished_at FROM steps
                         WHERE name = 'spawn'"""),
            {"port": f"host:{other}"},
        )  # fmt: skip
        await tx.execute(Statement("UPDATE servers SET next_number = next_number + 1"), {})

    await cell(cloud).write(plant, None)
    await cloud.delete(uuid)
    await cloud.settled(uuid, "deleted")
    assert await still_owed(cloud) == 2
    down.remove(other)
    await pay(cloud)
    assert await still_owed(cloud) == 1
    assert len(cloud.network.ports) == 1
    assert await count(cloud.databases.global_, "SELECT COUNT(*) FROM consumers") == 1
    down.clear()
    cloud.tap.hook = None
    await asyncio.gather(pay(cloud), pay(cloud))
    assert await still_owed(cloud) == 0
    assert cloud.network.ports == {}
    assert await cloud.audit() == []


async def test_the_sweep_leaves_ports_that_a_debt_still_uses(cloud):
    (uuid,) = await cloud.create()
    server = await cloud.settled(uuid, "active")

    async def down(call, go):
        if call.port == f"host:{server.host}":
            raise Transient("away", "unreachable")
        return await go()

    cloud.tap.hook = down
    await cloud.delete(uuid)
    await cloud.settled(uuid, "deleted")
    for _ in range(3):
        await cloud.conductor.housekeeping.sweep()
    assert len(cloud.network.ports) == 1
    cloud.tap.hook = None
    await pay(cloud)
    assert cloud.network.ports == {}
    assert await cloud.audit() == []


async def test_a_host_that_never_answers_does_not_keep_others_from_being_paid(cloud):
    uuids = await cloud.create(6)
    servers = [await cloud.settled(uuid, "active") for uuid in uuids]
    assert len({s.host for s in servers}) == 2

    async def down(call, go):
        if call.port.startswith("host:"):
            raise Transient("away", "unreachable")
        return await go()

    cloud.tap.hook = down
    for uuid in uuids:
        await cloud.delete(uuid)
        await cloud.settled(uuid, "deleted")
    first = servers[0].host
    hung = asyncio.Event()

    async def hangs(call, go):
        if call.port == f"host:{first}":
            hung.set()
            await asyncio.Event().wait()
        return await go()

    cloud.tap.hook = hangs
    for reconciler in cloud.conductor.reconcilers:
        reconciler.budget_s = 0.2
    await asyncio.wait_for(pay(cloud), 10)
    assert hung.is_set()
    assert await still_owed(cloud) == sum(s.host == first for s in servers)
    cloud.tap.hook = None
    await pay(cloud)
    await pay(cloud)
    assert await still_owed(cloud) == 0
    assert await cloud.audit() == []


async def test_two_conductors_pay_the_same_debt(cloud):
    uuid = await failed_build_with_a_debt(cloud)
    reconciler = next(r for r in cloud.conductor.reconcilers if r._database is cell(cloud))
    await asyncio.gather(reconciler.pay(), reconciler.pay(), reconciler.pay())
    assert await still_owed(cloud) == 0
    assert await cloud.audit() == []
    await cloud.delete(uuid)
    await cloud.settled(uuid, "deleted")
    assert await cloud.audit() == []


async def test_a_debt_that_is_written_off_lets_go_of_what_it_kept(cloud):
    """The host will never come back, says an admin: then its address and its claim are free again."""
    (uuid,) = await cloud.create()
    server = await cloud.settled(uuid, "active")

    async def down(call, go):
        if call.port == f"host:{server.host}":
            raise Transient("away", "unreachable")
        return await go()

    cloud.tap.hook = down
    await cloud.delete(uuid)
    await cloud.settled(uuid, "deleted")

    async def write_off(tx, _):
        await tx.execute(Statement("UPDATE debts SET state = 'written-off' WHERE state = 'open'"), {})

    await cell(cloud).write(write_off, None)
    assert len(cloud.network.ports) == 1
    await pay(cloud)
    assert cloud.network.ports == {}
    assert await count(cloud.databases.global_, "SELECT COUNT(*) FROM consumers") == 0
    calls = len(cloud.tap.calls)
    await pay(cloud)
    assert len(cloud.tap.calls) == calls
