"""Old journal rows go; ports that a late answer left behind are swept."""

from __future__ import annotations

from uuid import uuid4

from conductor.small_cloud import count, small_cloud
from kilonova.conductor.housekeeping import KEPT_US
from kilonova.db.statement import Statement


async def age(database):
    async def f(tx, _):
        await tx.execute(Statement("UPDATE operations SET ended_at = ended_at - :old WHERE ended_at IS NOT NULL"),
                         {"old": KEPT_US + 1_000_000})  # fmt: skip
        await tx.execute(Statement("UPDATE receipts SET created_at = created_at - :old"), {"old": KEPT_US + 1_000_000})

    await database.write(f, None)


async def test_ended_operations_are_kept_for_a_while_and_then_go(databases, tmp_path):
    async with small_cloud(databases, tmp_path) as cloud:
        (uuid,) = await cloud.create()
        await cloud.settled(uuid, "active")
        assert await cloud.audit() == []
        assert await cloud.conductor.housekeeping.retire() == 0
        for database in databases.all():
            await age(database)
        assert await cloud.conductor.housekeeping.retire() == 2
        for database in databases.all():
            for table in ("operations", "steps", "receipts"):
                assert await count(database, f"SELECT COUNT(*) FROM {table}") == 0
        assert (await cloud.delete(uuid)).refused is None
        await cloud.settled(uuid, "deleted")
        assert await cloud.audit() == []


async def test_an_operation_that_owes_something_is_kept(databases, tmp_path):
    async with small_cloud(databases, tmp_path) as cloud:
        (uuid,) = await cloud.create()
        await cloud.settled(uuid, "active")
        cloud.network.away = True
        for executor in cloud.conductor.executors:
            executor.budget_scale = 0.002
        await cloud.delete(uuid)
        await cloud.settled(uuid, "deleted")
        for database in databases.all():
            await age(database)
        await cloud.conductor.housekeeping.retire()
        cloud.network.away = False
        for reconciler in cloud.conductor.reconcilers:
            await reconciler.pay()
        assert await cloud.audit() == []
        assert await cloud.conductor.housekeeping.retire() == 1


async def test_ports_of_a_server_that_is_gone_are_swept_at_the_second_sight(databases, tmp_path):
    async with small_cloud(databases, tmp_path) as cloud:
        (uuid,) = await cloud.create()
        await cloud.settled(uuid, "active")
        cloud.network.ports["late"] = str(uuid4())
        keeping = type(cloud.conductor.housekeeping)(
            databases.global_, databases.all(), cloud.network, cloud.conductor.now_us
        )
        assert await keeping.sweep() == 0
        assert await keeping.sweep() == 1
        assert "late" not in cloud.network.ports
        assert len(cloud.network.ports) == 1
