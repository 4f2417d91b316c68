"""Beats that cross processes: written by who hears them, judged by who reads them, with clocks that tests turn."""

from __future__ import annotations

import pytest

from conductor.small_cloud import now_us, small_cloud
from kilonova.conductor.beats import COMPUTE, DOWN_AFTER_S, GRACE_S, READ_S, BeatReader, BeatWriter
from kilonova.db.errors import Unavailable
from kilonova.db.queries import services

HOSTS = ("a", "b", "c")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Heard:
    def __init__(self) -> None:
        self.beats = []

    def __call__(self, hosts, incarnation, counter) -> None:
        self.beats.append((hosts, incarnation, counter))


@pytest.fixture
async def writer(databases):
    async def enter(tx, _):
        for host in HOSTS:
            await services.enter(tx, host, COMPUTE, "cell1", 1)

    await databases.global_.write(enter, None)
    made = BeatWriter(databases.global_, "control", ("nova-conductor", "nova-scheduler"), now_us)
    await made.enter()
    return made


async def look(reader, clock, seconds) -> None:
    """Look every two seconds for `seconds`."""
    end = clock.now + seconds
    while clock.now < end:
        clock.now += READ_S
        await reader.poll()


async def test_own_rows_and_those_of_hosts(databases, writer):
    rows = {(host, program): beat for host, program, beat in await services.beats(databases.global_)}
    assert rows.keys() == {("control", "nova-conductor"), ("control", "nova-scheduler")} | {(h, COMPUTE) for h in HOSTS}
    writer.heard(("a", "b"), "one")
    writer.heard(("b",), "other")
    await writer.write()
    after = {(host, program): beat for host, program, beat in await services.beats(databases.global_)}
    moved = {key[0] for key, beat in after.items() if beat != rows[key]}
    assert moved == {"a", "b", "control"}
    await writer.write()
    third = {(host, program): beat for host, program, beat in await services.beats(databases.global_)}
    assert {key[0] for key, beat in third.items() if beat != after[key]} == {"control"}
    numbers = [row[1] for row in await databases.global_.fetch(services.ALL, {})]
    assert numbers == list(range(1, 6))


async def test_who_is_up(databases, writer):
    clock, heard = Clock(), Heard()
    reader = BeatReader(databases.global_, beat=heard, monotonic=clock)
    assert not reader.is_up("a", COMPUTE)
    await reader.poll()
    assert reader.is_up("a", COMPUTE) and not reader.is_up("a", "nova-conductor")
    assert heard.beats == []
    for _ in range(4):
        writer.heard(("a",), "one")
        await writer.write()
        await look(reader, clock, GRACE_S / 3)
    assert reader.is_up("a", COMPUTE) and reader.is_up("control", "nova-scheduler")
    assert not reader.is_up("b", COMPUTE)
    assert [hosts for hosts, _, _ in heard.beats] == [("a",)] * 4
    assert len({id(hosts) for hosts, _, _ in heard.beats}) == 1
    assert [n for _, _, n in heard.beats] == [1, 2, 3, 4]
    await look(reader, clock, DOWN_AFTER_S - 2 * GRACE_S)
    assert reader.is_up("a", COMPUTE)
    await look(reader, clock, 2 * GRACE_S + READ_S)
    assert not reader.is_up("a", COMPUTE)
    writer.heard(("a", "b"), "one")
    await writer.write()
    await look(reader, clock, READ_S)
    assert reader.is_up("a", COMPUTE) and reader.is_up("b", COMPUTE)


async def test_time_without_a_database_does_not_count(databases, writer, monkeypatch):
    clock = Clock()
    reader = BeatReader(databases.global_, monotonic=clock)
    await reader.poll()
    await writer.write()
    await look(reader, clock, READ_S)

    async def away(database):
        raise Unavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(services, "beats", away)
        for _ in range(100):
            clock.now += READ_S
            with pytest.raises(Unavailable):
                await reader.poll()
    assert reader.is_up("control", "nova-conductor")
    await look(reader, clock, READ_S)
    assert reader.is_up("control", "nova-conductor")


async def test_a_deleted_row_of_what_lives_comes_back(databases, writer):
    async def delete(tx, uuid):
        return await services.delete(tx, uuid, 1)

    gone = services.service_uuid("control", "nova-conductor")
    reader = BeatReader(databases.global_)
    await reader.poll()
    assert await databases.global_.write(delete, gone)
    await reader.poll()
    assert not reader.is_up("control", "nova-conductor")
    await writer.write()
    await reader.poll()
    assert reader.is_up("control", "nova-conductor")


async def test_one_process_has_its_rows_and_is_up(databases, tmp_path):
    async with small_cloud(databases, tmp_path) as cloud:
        found = {(row[2], row[3]) for row in await databases.global_.fetch(services.ALL, {})}
        assert {("conductor-1", "nova-conductor"), ("conductor-1", "nova-scheduler"), ("sim-0", COMPUTE)} <= found
        assert cloud.conductor.service_up("conductor-1", "nova-scheduler")
        assert not cloud.conductor.service_up("elsewhere", "nova-scheduler")
        uuid = services.service_uuid("sim-0", COMPUTE)

        async def delete(tx, uuid):
            return await services.delete(tx, uuid, 1)

        async def entered() -> bool:
            return await databases.global_.fetch_one(services.BY_UUID, {"uuid": uuid}) is not None

        assert await databases.global_.write(delete, uuid)
        cloud.compute.reporter.reconnected()
        await cloud.until(entered, "the host's service to be entered anew")
