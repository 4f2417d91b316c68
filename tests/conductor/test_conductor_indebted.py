"""A host that owes something takes no new guests until it is paid, whichever database the debt is in."""

from __future__ import annotations

import pytest

from conductor.small_cloud import small_cloud
from kilonova.conductor.errors import Transient
from kilonova.db.statement import Statement

WRITE_OFF = Statement("UPDATE debts SET state = 'written-off' WHERE state = 'open'")


@pytest.fixture
async def cloud(databases, tmp_path):
    async with small_cloud(databases, tmp_path) as cloud:
        for executor in cloud.conductor.executors:
            executor.budget_scale = 0.002
        yield cloud


async def down(call, go):
    if call.port == "host:sim-0":
        raise Transient("The compute host cannot be reached.", "unreachable")
    return await go()


async def boot(cloud, host=None):
    (uuid,) = await cloud.create(host=host)
    return await cloud.settled(uuid, "active", "error")


async def owe(cloud):
    """Leave a guest on sim-0 that should not be there."""
    server = await boot(cloud, "sim-0")
    cloud.tap.hook = down
    await cloud.delete(server.uuid)
    await cloud.settled(server.uuid, "deleted")


async def test_a_host_with_debts_takes_no_new_guests(cloud):
    await owe(cloud)
    await cloud.indebted("sim-0")
    for _ in range(4):
        assert (await boot(cloud)).host == "sim-1"
    refused = await boot(cloud, "sim-0")
    assert refused.vm_state == "error" and "No host was left by DebtFilter" in refused.fault
    cloud.tap.hook = None
    for reconciler in cloud.conductor.reconcilers:
        await reconciler.pay()
    await cloud.indebted()
    assert (await boot(cloud, "sim-0")).vm_state == "active"
    assert await cloud.audit() == []


async def test_the_mark_follows_without_being_told(cloud):
    """Set as soon as the debt is made, gone once somebody else ended it."""

    async def write_off(tx, _):
        await tx.execute(WRITE_OFF, {})

    async def owing() -> bool:
        cloud.scheduler.poke()
        return bool(cloud.scheduler.columns.owing.any())

    await owe(cloud)
    await cloud.until(owing, "the debt to be seen", 4.0)
    for database in cloud.databases.all():
        await database.write(write_off, None)
    await cloud.indebted()
