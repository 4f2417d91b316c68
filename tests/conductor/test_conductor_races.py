"""Two that want the same server at once: admissions against boundaries, a delete against what comes late."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from conductor.small_cloud import SmallCloud, count, now_us, small_cloud
from kilonova.conductor.effects.claim import ClaimArgs, reclaim
from kilonova.conductor.errors import Refused, Transient
from kilonova.conductor.reports import _levels
from kilonova.conductor.story import Context
from kilonova.db.database import Tx
from kilonova.db.statement import Statement
from kilonova.model.command import HostReport, Method
from kilonova.model.guest import GuestFact
from kilonova.model.power import PowerState


@pytest.fixture
async def cloud(databases, tmp_path):
    async with small_cloud(databases, tmp_path) as made:
        yield made


async def boot(cloud: SmallCloud, **kw):
    (uuid,) = await cloud.create(**kw)
    server = await cloud.settled(uuid, "active")
    assert server is not None
    return server


class Hold:
    """Holds calls of one method until released."""

    def __init__(self, method: str) -> None:
        self.method, self.reached, self.release = method, asyncio.Event(), asyncio.Event()

    async def __call__(self, call, go):
        if call.method == self.method and not call.undo:
            self.reached.set()
            await self.release.wait()
        return await go()


async def test_a_reboot_that_queues_behind_another_keeps_the_server_busy(cloud):
    """Nova's table lets a hard reboot in while a soft one runs: the first one's end is not the end."""
    server = await boot(cloud)
    cloud.tap.hook = soft = Hold(Method.REBOOT)
    assert (await cloud.reboot(server.uuid, "SOFT")).refused is None
    await soft.reached.wait()
    assert (await cloud.reboot(server.uuid, "HARD")).refused is None
    assert (await cloud.server(server.uuid)).task_state == "rebooting_hard"
    cloud.tap.hook = hard = Hold(Method.REBOOT)
    soft.release.set()
    await hard.reached.wait()
    now = await cloud.server(server.uuid)
    assert now.task_state == "reboot_started_hard"
    assert now.operation_id is not None
    assert (await cloud.power_off(server.uuid)).refused
    hard.release.set()
    cloud.tap.hook = None
    await cloud.settled(server.uuid, "active")
    assert await cloud.audit() == []


class Interleaved:
    """A transaction in which, after its n-th statement, another one's commit becomes visible (READ COMMITTED)."""

    def __init__(self, tx: Tx, after: int, sql: str, **params) -> None:
        self._tx, self._left, self._sql, self._params = tx, after, Statement(sql), params
        self.dialect, self.changed = tx.dialect, False

    async def _then(self, answer):
        self._left -= 1
        if self._left == 0:
            await self._tx.execute(self._sql, self._params)
        return answer

    async def execute(self, statement, params):
        return await self._then(await self._tx.execute(statement, params))

    async def fetch(self, statement, params):
        return await self._then(await self._tx.fetch(statement, params))

    async def fetch_one(self, statement, params):
        return await self._then(await self._tx.fetch_one(statement, params))

    async def insert_if_absent(self, statement, params):
        return await self._then(await self._tx.insert_if_absent(statement, params))


@pytest.mark.parametrize("after", [1, 2, 3, 4])
async def test_a_report_does_not_overrule_what_was_admitted_while_it_was_read(cloud, after):
    """On PostgreSQL a delete may be admitted between a report's statements."""
    server = await boot(cloud)
    fact = GuestFact(uuid=server.uuid, power_state=PowerState.SHUTDOWN)
    report = HostReport(
        host=server.host, incarnation="9", seq=1, beat=1, full=True, guests=(fact,), numbers={server.uuid: 99}
    )
    deletes = "UPDATE servers SET task_state = 'deleting', next_number = next_number + 1, generation = generation + 1"

    async def f(tx, args):
        inner = Interleaved(tx, after, deletes)
        opened = await _levels(inner, args)
        row = await tx.fetch_one(Statement("SELECT task_state, next_number FROM servers"), {})
        raise _Seen(opened, row)

    with pytest.raises(_Seen) as seen:
        await cloud.databases.cells["cell1"].write(f, (report, {server.uuid: fact}, None, now_us()))
    opened, (task_state, _) = seen.value.args
    assert opened == [] or after == 4  # by then the stop was admitted first: on PostgreSQL the delete waits for it
    if not opened:
        assert task_state == "deleting"


class _Seen(Exception):
    """What a transaction saw, which is rolled back with it."""


async def test_a_late_reclaim_of_a_deleted_server_claims_nothing(cloud):
    """Its owner was paused in the middle of trying another host; meanwhile the server was deleted."""
    server = await boot(cloud)
    await cloud.delete(server.uuid)
    await cloud.settled(server.uuid, "deleted")
    provider = await cloud.databases.global_.fetch_one(Statement("SELECT uuid FROM resource_providers LIMIT 1"), {})
    args = ClaimArgs(
        places=((server.uuid, provider[0]),), resources={"VCPU": 1, "MEMORY_MB": 512, "DISK_GB": 1},
        project_id=server.project_id, user_id=server.user_id,
    )  # fmt: skip
    context = Context("op", "req", "u", "p", now_us(), cloud.databases.global_.dialect)

    async def f(tx, _):
        return await reclaim.function(tx, args, context)

    assert not (await cloud.databases.global_.write(f, None)).ok
    assert await count(cloud.databases.global_, "SELECT COUNT(*) FROM consumers") == 0
    assert await cloud.audit() == []


async def test_claims_of_many_are_all_given_back(cloud, monkeypatch):
    """A schedule that fails after its claims gives back each of them, not only the first."""
    from kilonova.conductor import story
    from kilonova.conductor.effects import place

    async def broken(tx, args, context):
        raise KeyError("a bug")

    with monkeypatch.context() as patch:
        patch.setitem(story.EFFECTS, "place", story.Effect("place", broken, place.PlaceArgs, None))
        uuids = await cloud.create(5)
        for uuid in uuids:
            server = await cloud.settled(uuid, "error")
            assert "internal" in server.fault
    assert await count(cloud.databases.global_, "SELECT COUNT(*) FROM consumers") == 0
    assert await cloud.audit() == []
    for uuid in uuids:
        await cloud.delete(uuid)
        await cloud.settled(uuid, "deleted")
    assert await cloud.audit() == []


async def test_a_server_that_was_never_built_shows_no_addresses(cloud):
    """They were given back, and may be another server's by now."""

    async def hook(call, go):
        if call.method == Method.SPAWN:
            raise Refused("no", "image_invalid")
        return await go()

    cloud.tap.hook = hook
    (uuid,) = await cloud.create()
    server = await cloud.settled(uuid, "error")
    assert msgspec.json.decode(server.addresses) == []
    assert cloud.network.ports == {}


async def test_five_hundred_at_once(databases, tmp_path):
    from kilonova.compute.virt.sim.world import HostSize

    size = HostSize(vcpus=64, memory_mb=1 << 20, local_gb=10_000)
    async with small_cloud(databases, tmp_path, hosts=3, size=size) as cloud:
        uuids = await cloud.create(500)
        for uuid in uuids:
            await cloud.settled(uuid, "active", seconds=120)
        assert await cloud.audit() == []
        for database in databases.all():
            for column, table in (("args", "steps"), ("undo_call", "steps"), ("inputs", "operations")):
                longest = await count(database, f"SELECT COALESCE(MAX(LENGTH({column})), 0) FROM {table}")
                assert longest < 64 * 1024, (table, column)


async def test_a_part_that_cannot_be_placed_fails_alone(databases, tmp_path, monkeypatch):
    """What is in its cell is being built already: it cannot be undone by standing in cell0 as well."""
    from kilonova.compute.virt.sim.world import HostSize
    from kilonova.conductor import story
    from kilonova.conductor.effects import place

    fine, seen = place.place, []

    async def broken(tx, args, context):
        if not seen:
            seen.append(frozenset(p.server for p in args.places))
        if any(p.server not in seen[0] for p in args.places):
            raise KeyError("a bug")
        return await fine.function(tx, args, context)

    patched = story.Effect("place", broken, place.PlaceArgs, None, fine.reads)
    monkeypatch.setitem(story.EFFECTS, "place", patched)
    size = HostSize(vcpus=64, memory_mb=1 << 20, local_gb=10_000)
    async with small_cloud(databases, tmp_path, hosts=2, size=size) as cloud:
        uuids = await cloud.create(130)
        states = [(await cloud.settled(uuid, "active", "error", seconds=60)).vm_state for uuid in uuids]
        assert (states.count("active"), states.count("error")) == (100, 30)
        assert await cloud.audit() == []


async def test_deleted_twice_at_once_and_again(cloud):
    server = await boot(cloud)
    answers = await asyncio.gather(*(cloud.delete(server.uuid) for _ in range(5)))
    assert sum(a.already or a.gone for a in answers) == 4
    await cloud.settled(server.uuid, "deleted")
    assert (await cloud.delete(server.uuid)).gone
    assert await cloud.audit() == []


@pytest.mark.parametrize("moment", ["before it is placed", "while it is placed"])
async def test_deletes_of_some_of_many_that_are_being_placed(cloud, moment):
    hold = Hold("place")
    if moment == "while it is placed":
        cloud.tap.hook = hold
    uuids = await cloud.create(4)
    if cloud.databases.global_ is not cloud.databases.cells["cell1"] and moment == "while it is placed":
        await hold.reached.wait()
    for uuid in uuids[:2]:
        assert (await cloud.delete(uuid)).refused is None
        assert (await cloud.delete(uuid)).refused is None
    hold.release.set()
    for uuid in uuids[:2]:
        await cloud.settled(uuid, "deleted")
    for uuid in uuids[2:]:
        await cloud.settled(uuid, "active")
    assert await cloud.audit() == []


async def test_a_full_disk_in_the_middle_of_everything(cloud, monkeypatch):
    """Writes fail for a while at every moment of a life; nothing is lost."""
    from kilonova.db.errors import StorageFull

    full, seen = [False], set()
    for database in dict.fromkeys(cloud.databases.all()):
        write = database.write

        async def failing(f, args, write=write):
            if full[0] and f.__name__ in ("commit_boundary", "_once", "_levels"):
                raise StorageFull("no room")
            return await write(f, args)

        monkeypatch.setattr(database, "write", failing)

    async def hook(call, go):
        answer = await go()
        if call.key not in seen:
            seen.add(call.key)
            full[0] = True
            asyncio.get_running_loop().call_later(0.2, full.__setitem__, 0, False)
        return answer

    cloud.tap.hook = hook
    server = await boot(cloud)
    await cloud.delete(server.uuid)
    await cloud.settled(server.uuid, "deleted")
    assert await cloud.audit() == []


@pytest.mark.parametrize("happened", [True, False])
async def test_a_commit_of_which_nobody_knows(cloud, monkeypatch, happened):
    """The connection broke during COMMIT, for every boundary and every effect once."""
    from kilonova.db.errors import CommitUnknown

    seen: set[object] = set()
    for database in dict.fromkeys(cloud.databases.all()):
        write = database.write

        async def broken(f, args, write=write):
            if f.__name__ not in ("commit_boundary", "_once"):
                return await write(f, args)
            boundary = f.__name__ == "commit_boundary"
            key = (args.run.row.id, len(args.run.known), args.run.state) if boundary else args[2]
            if key in seen:
                return await write(f, args)
            seen.add(key)
            if happened:
                await write(f, args)
            raise CommitUnknown("the connection broke")

        monkeypatch.setattr(database, "write", broken)
    server = await boot(cloud)
    await cloud.power_off(server.uuid)
    await cloud.settled(server.uuid, "stopped")
    await cloud.delete(server.uuid)
    await cloud.settled(server.uuid, "deleted")
    assert await cloud.audit() == []


async def test_a_takeover_in_the_middle_of_an_undo(databases, tmp_path):
    async with small_cloud(databases, tmp_path) as cloud:
        held = asyncio.Event()

        async def hook(call, go):
            if call.method == Method.SPAWN:
                await go()
                raise Refused("no", "image_invalid")
            if call.undo and not held.is_set():
                held.set()
                await go()
                await asyncio.Event().wait()
            return await go()

        cloud.tap.hook = hook
        (uuid,) = await cloud.create()
        await asyncio.wait_for(held.wait(), 10)
        other = await cloud.crash()
        try:
            await other.settled(uuid, "error")
            assert other.network.ports == {}
            assert await other.audit() == []
        finally:
            await other.stop()


async def test_a_conductor_that_lost_its_beat_starts_no_effect(cloud):
    allowed = [True]
    for executor in cloud.conductor.executors:
        executor._may_act = lambda: allowed[0]
    cloud.tap.hook = hold = Hold(Method.SPAWN)
    (uuid,) = await cloud.create()
    await hold.reached.wait()
    allowed[0] = False
    hold.release.set()
    for executor in cloud.conductor.executors:
        await executor.idle()
    calls = len(cloud.tap.calls)
    for executor in cloud.conductor.executors:
        await executor.poll()
        await executor.idle()
    assert len(cloud.tap.calls) == calls
    assert (await cloud.server(uuid)).vm_state == "building"
    allowed[0] = True
    await cloud.settled(uuid, "active")
    assert await cloud.audit() == []


async def test_a_host_that_lost_its_file_at_each_story(databases, tmp_path):
    """The ledger goes between a command and its repetition: the hypervisor is what it is (1.14)."""
    async with small_cloud(databases, tmp_path) as cloud:
        lost: list[str] = []

        async def hook(call, go):
            answer = await go()
            if call.port.startswith("host:") and call.key not in lost:
                lost.append(call.key)
                cloud.compute.ledger.entries.clear()
                raise Transient("the answer got lost", "unknown")
            return answer

        cloud.tap.hook = hook
        server = await boot(cloud)
        await cloud.power_off(server.uuid)
        await cloud.settled(server.uuid, "stopped")
        await cloud.power_on(server.uuid)
        await cloud.settled(server.uuid, "active")
        for kind in ("SOFT", "HARD"):
            await cloud.reboot(server.uuid, kind)
            await cloud.settled(server.uuid, "active")
        await cloud.delete(server.uuid)
        await cloud.settled(server.uuid, "deleted")
        assert len(lost) == 6
        assert await cloud.audit() == []


async def test_reports_out_of_order(cloud):
    """An older report that comes late says nothing, whichever conductor takes it."""
    server = await boot(cloud)
    await cloud.power_off(server.uuid)
    await cloud.settled(server.uuid, "stopped")
    host, uuid = server.host, server.uuid
    cell = cloud.databases.cells["cell1"]
    old = HostReport(
        host=host, incarnation="9", seq=1, beat=1, full=True, numbers={uuid: 1},
        guests=(GuestFact(uuid=uuid, power_state=PowerState.RUNNING),),
    )  # fmt: skip
    assert await cell.write(_levels, (old, {uuid: old.guests[0]}, None, now_us())) == []
    assert (await cloud.server(uuid)).power_state == 4


@pytest.mark.parametrize("undone", ["at once", "as a debt"])
async def test_a_refused_reboot_leaves_a_stopped_server_stopped(cloud, undone):
    """A hard reboot may begin with a guest that is off: undone it is off again."""
    server = await boot(cloud)
    await cloud.power_off(server.uuid)
    await cloud.settled(server.uuid, "stopped")
    for executor in cloud.conductor.executors:
        executor.budget_scale = 0.002

    async def hook(call, go):
        if call.method == Method.REBOOT:
            await go()
            raise Refused("no, but it is done", "refused")
        if call.undo and undone == "as a debt":
            raise Transient("away", "unreachable")
        return await go()

    cloud.tap.hook = hook
    assert (await cloud.reboot(server.uuid, "HARD")).refused is None
    await cloud.settled(server.uuid, "stopped")
    cloud.tap.hook = None
    for reconciler in cloud.conductor.reconcilers:
        await reconciler.pay()
    assert await cloud.audit() == []
