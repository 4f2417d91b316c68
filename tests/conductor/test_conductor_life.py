"""The life of servers through the real conductor, scheduler, placement and hosts of a sim world."""

from __future__ import annotations

import shutil

import msgspec
import pytest

from conductor.small_cloud import small_cloud
from kilonova.compute.virt.sim.world import HostSize
from kilonova.db.open import one_file, open_databases, three_files
from kilonova.model.placement import Conflict


@pytest.fixture
async def cloud(databases, tmp_path):
    async with small_cloud(databases, tmp_path) as cloud:
        yield cloud


def guests(cloud):
    return {g.uuid: g for content in cloud.world.snapshot().values() for g in content.guests}


async def test_a_server_boots_runs_and_goes(cloud):
    (uuid,) = await cloud.create()
    server = await cloud.settled(uuid, "active", "error")
    assert server.vm_state == "active", server.fault
    assert server.power_state == 1
    assert server.launched_at
    assert uuid in guests(cloud)
    assert len(cloud.network.ports) == 1
    assert msgspec.json.decode(server.addresses)[0]["label"] == "private"
    assert (await cloud.delete(uuid)).refused is None
    await cloud.settled(uuid, "deleted")
    assert guests(cloud) == {}
    assert cloud.network.ports == {}


async def test_stop_start_reboot(cloud):
    (uuid,) = await cloud.create()
    await cloud.settled(uuid, "active")
    assert (await cloud.power_off(uuid)).refused is None
    assert (await cloud.settled(uuid, "stopped")).power_state == 4
    assert (await cloud.power_off(uuid)).refused
    assert (await cloud.power_on(uuid)).refused is None
    assert (await cloud.settled(uuid, "active")).power_state == 1
    for kind in ("SOFT", "HARD"):
        assert (await cloud.reboot(uuid, kind)).refused is None
        await cloud.settled(uuid, "active")


async def test_hosts_that_are_full_refuse_with_the_reason(databases, tmp_path):
    async with small_cloud(databases, tmp_path, hosts=1, size=HostSize(vcpus=1, memory_mb=2048, local_gb=100)) as cloud:
        uuids = [uuid for _ in range(5) for uuid in await cloud.create()]
        states = [(await cloud.settled(u, "active", "error")) for u in uuids]
        assert sorted(s.vm_state for s in states) == ["active"] * 3 + ["error"] * 2, [s.fault for s in states]
        fault = next(s.fault for s in states if s.vm_state == "error")
        assert "No valid host was found" in fault


async def test_many_at_once_all_or_none(databases, tmp_path):
    size = HostSize(vcpus=1, memory_mb=2048, local_gb=100)
    async with small_cloud(databases, tmp_path, hosts=2, size=size) as cloud:
        uuids = await cloud.create(7)
        assert {(await cloud.settled(u, "active", "error")).vm_state for u in uuids} == {"error"}
        uuids = await cloud.create(6)
        assert {(await cloud.settled(u, "active", "error")).vm_state for u in uuids} == {"active"}


async def test_places_of_a_refused_claim_are_given_back(cloud, monkeypatch):
    """Whoever asks next is not told that the cloud is full of servers that will never be."""
    from kilonova.conductor.effects import claim as effects

    async def refuse(tx, claims):
        return Conflict(reason="full", provider="")

    with monkeypatch.context() as patch:
        patch.setattr(effects.claims, "claim_many", refuse)
        (uuid,) = await cloud.create()
        server = await cloud.settled(uuid, "error")
    assert "filled up meanwhile" in server.fault
    assert list(cloud.scheduler.columns.holds.all()) == []
    (uuid,) = await cloud.create()
    await cloud.settled(uuid, "active")
    assert await cloud.audit() == []


async def test_delete_before_it_is_placed(cloud):
    (uuid,) = await cloud.create()
    answer = await cloud.delete(uuid)
    assert answer.refused is None
    await cloud.settled(uuid, "deleted")
    assert guests(cloud) == {}


@pytest.mark.parametrize("files", [one_file, three_files])
async def test_delete_before_anybody_looked(files, sqlite_template, tmp_path, monkeypatch):
    """As when the process dies between the two requests; in one database all of it is one lane and one commit."""
    urls = files(tmp_path)
    for path in set(urls.values()):
        shutil.copy(sqlite_template, path)
    async with await open_databases(urls, create=False) as databases, small_cloud(databases, tmp_path) as cloud:
        with monkeypatch.context() as patch:
            for executor in cloud.conductor.executors:
                patch.setattr(executor, "poke", lambda operation_id: None)
            (uuid,) = await cloud.create()
            assert (await cloud.delete(uuid)).refused is None
        for executor in cloud.conductor.executors:
            await executor.poll()
        await cloud.settled(uuid, "deleted")
        assert guests(cloud) == {}
        assert await cloud.audit() == []


async def test_a_refused_build_is_undone_and_shows_why(cloud):
    uuids = await cloud.create()
    cloud.network.refuse.add(uuids[0])
    server = await cloud.settled(uuids[0], "active", "error")
    if server.vm_state == "error":
        assert "No more IP addresses" in server.fault
        assert guests(cloud) == {}
        assert cloud.network.ports == {}


async def test_a_guest_that_stops_by_itself_is_shown_stopped(cloud):
    (uuid,) = await cloud.create()
    server = await cloud.settled(uuid, "active")
    from kilonova.model.power import PowerState

    cloud.world.force_power(server.host, uuid, PowerState.SHUTDOWN, "shut down by the guest")
    assert (await cloud.settled(uuid, "stopped")).power_state == 4
