"""What only a bus of several processes has: transport keys, several conductors, links that die."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest
from bus_worlds import DEADLINE, ZeroMQWorld, free_port, until

from kilonova.bus.api import BusError, Result, Sender, Unreachable
from kilonova.bus.core import BusCore
from kilonova.bus.enrolment import Directory, Keys, create_keys
from kilonova.bus.envelope import identity
from kilonova.bus.factory import TransportError, open_bus
from kilonova.bus.zeromq import ZeroMQBus


async def echo(sender: Sender, method: str, payload: bytes) -> Result:
    return Result(payload)


async def serve(conductors: list[BusCore], host: BusCore) -> None:
    host.serve(host.identity.name, echo)
    for conductor in conductors:
        await until(lambda conductor=conductor: conductor._host_peer(host.identity.name))


async def test_every_conductor_reaches_every_host(two_conductors: ZeroMQWorld) -> None:
    world = two_conductors
    conductors = [await world.bus(name, "conductor") for name, _ in world.conductors]
    host = await world.bus("host-1", "host")
    await serve(conductors, host)
    for conductor in conductors:
        assert await conductor.call("host-1", "x", b"1", ttl=DEADLINE) == Result(b"1")


async def test_wakes_fan_through_conductors_once_to_each(two_conductors: ZeroMQWorld) -> None:
    world = two_conductors
    buses = [await world.bus(name, "conductor") for name, _ in world.conductors]
    buses += [await world.bus(f"api-{n}", "api") for n in (1, 2, 3)]
    heard: list[tuple[str, str]] = []
    for bus in buses:
        bus.on_wake("operation.x", lambda subject, name=bus.identity.name: heard.append((name, subject)))
    names = sorted(bus.identity.name for bus in buses)
    number = 0
    async with asyncio.timeout(DEADLINE):
        while sorted(name for name, _ in heard) != names:  # until all subscriptions have arrived
            heard.clear()
            number += 1
            buses[2].wake("operation.x", str(number))
            await asyncio.sleep(0.03)
    for speaker in buses:
        heard.clear()
        speaker.wake("operation.x", "all")
        await until(lambda: len(heard) >= len(buses))
        await asyncio.sleep(0.02)
        assert sorted(name for name, _ in heard) == names, speaker.identity.name


async def test_reports_stay_with_one_conductor_until_it_is_gone(two_conductors: ZeroMQWorld) -> None:
    world = two_conductors
    first, second = [await world.bus(name, "conductor") for name, _ in world.conductors]
    host = await world.bus("host-1", "host")
    took: list[str] = []
    for bus in (first, second):

        async def handler(sender: Sender, payload: bytes, name: str = bus.identity.name) -> None:
            took.append(name)

        bus.on_report(handler)
    for _ in range(4):
        await host.report("host-1", b"", ttl=DEADLINE)
    assert len(set(took)) == 1
    left = second if took[0] == first.identity.name else first
    await world.stop(first if left is second else second)
    await until(lambda: sum(link.up for link in host._links) == 1)  # type: ignore[attr-defined]
    took.clear()
    for _ in range(4):
        await host.report("host-1", b"", ttl=DEADLINE)
    assert took == [left.identity.name] * 4


async def test_a_transport_key_that_is_not_enrolled_gets_no_connection(
    two_conductors: ZeroMQWorld, tmp_path: Path
) -> None:
    world = two_conductors
    conductor = await world.bus("conductor-1", "conductor")
    stranger = ZeroMQBus(identity("host-7", "host"), Keys(os.urandom(32)), Directory(world.keys), world.conductors[:1])
    await stranger.start()
    try:
        await until(lambda: conductor._allow.refused)  # type: ignore[attr-defined]
        assert not stranger._links[0].up and not conductor._diallers  # type: ignore[attr-defined]
        with pytest.raises(Unreachable):
            await stranger.report("host-7", b"", ttl=1)
    finally:
        await stranger.stop()


async def test_an_impostor_at_the_conductors_address_is_not_believed(tmp_path: Path) -> None:
    """Another enrolled process listens where the conductor should be: the link's key does not fit."""
    world = ZeroMQWorld(tmp_path)
    address = world.conductors[0][1]
    create_keys(tmp_path, "host-6")
    false = ZeroMQBus(identity("conductor-1", "conductor"), Keys(os.urandom(32)), Directory(tmp_path), [], bind=address)
    await false.start()
    try:
        host = world.make(identity("host-6", "host"))
        await host.start()
        try:
            await asyncio.sleep(0.4)
            assert not host._links[0].up  # type: ignore[attr-defined]
        finally:
            await host.stop()
    finally:
        await false.stop()


async def test_revoking_cuts_off_within_a_second_or_two(two_conductors: ZeroMQWorld) -> None:
    world = two_conductors
    conductor = await world.bus("conductor-1", "conductor")
    host = await world.bus("host-1", "host")
    await serve([conductor], host)
    world.revoke("host-1")
    await until(lambda: conductor._host_peer("host-1") is None, 4)
    with pytest.raises(BusError):
        await host.report("host-1", b"", ttl=0.5)


async def test_a_killed_process_is_noticed_and_its_successor_reached(two_conductors: ZeroMQWorld) -> None:
    world = two_conductors
    conductor = await world.bus("conductor-1", "conductor")
    url = f"zmq://{world.conductors[0][0]}@{world.conductors[0][1]}"
    world.make(identity("host-1", "host"))  # enrols it
    for _ in range(2):
        child = await asyncio.create_subprocess_exec(
            sys.executable, str(Path(__file__).with_name("bus_child.py")), url, str(world.keys), "host-1"
        )
        try:
            await until(lambda: conductor._host_peer("host-1"))
            assert await conductor.call("host-1", "pid", b"", ttl=DEADLINE) == Result(b"%d" % child.pid)
        finally:
            os.kill(child.pid, signal.SIGKILL)
            await child.wait()
        with pytest.raises(BusError):
            await conductor.call("host-1", "pid", b"", ttl=20)
        await until(lambda: conductor._host_peer("host-1") is None)


async def test_a_full_queue_is_unreachable_and_recovers(two_conductors: ZeroMQWorld) -> None:
    """A host that is stopped (SIGSTOP) takes nothing: the queues to it fill to their bound and no further."""
    world = two_conductors
    conductor = await world.bus("conductor-1", "conductor")
    conductor._dead = 60  # type: ignore[attr-defined]
    url = f"zmq://{world.conductors[0][0]}@{world.conductors[0][1]}"
    world.make(identity("host-1", "host"))
    child = await asyncio.create_subprocess_exec(
        sys.executable, str(Path(__file__).with_name("bus_child.py")), url, str(world.keys), "host-1"
    )
    try:
        await until(lambda: conductor._host_peer("host-1"))
        os.kill(child.pid, signal.SIGSTOP)
        refused = 0
        peer = conductor._host_peer("host-1")
        assert peer is not None
        for _ in range(3000):
            if not peer.send(bytes(100_000)):
                refused += 1
                break
        assert refused, "300 MB were taken for a host that reads nothing"
        with pytest.raises(Unreachable):
            await conductor.call("host-1", "pid", b"", ttl=DEADLINE)
        os.kill(child.pid, signal.SIGCONT)

        async def answers() -> bool:
            try:
                return await conductor.call("host-1", "pid", b"", ttl=1) == Result(b"%d" % child.pid)
            except BusError:
                return False

        async with asyncio.timeout(DEADLINE):
            while not await answers():  # noqa: ASYNC110  # each turn is a new question
                await asyncio.sleep(0.02)
    finally:
        os.kill(child.pid, signal.SIGKILL)
        await child.wait()


async def test_the_factory_explains_what_is_wrong(tmp_path: Path) -> None:
    who = identity("api-1", "api")
    with pytest.raises(TransportError, match="one process"):
        open_bus("memory://", who)
    with pytest.raises(TransportError, match="no such queue"):
        open_bus("kafka://x", who)
    with pytest.raises(TransportError, match="no key for api-1"):
        open_bus("zmq://c@127.0.0.1:1", who, tmp_path)
    create_keys(tmp_path, "api-1")
    with pytest.raises(TransportError, match="not enrolled as api"):
        open_bus("zmq://c@127.0.0.1:1", who, tmp_path)


async def test_the_factory_finds_conductors_by_their_enrolled_address(tmp_path: Path) -> None:
    world = ZeroMQWorld(tmp_path)
    address = world.conductors[0][1]
    world.make(identity("api-1", "api"))
    conductor = open_bus(f"zmq://{address}", identity("conductor-1", "conductor"), tmp_path)
    api = open_bus(f"zmq://{address}", identity("api-1", "api"), tmp_path)
    heard: list[str] = []
    await conductor.start()
    await api.start()
    try:
        conductor.on_wake("operation.x", heard.append)
        async with asyncio.timeout(DEADLINE):
            while not heard:
                api.wake("operation.x", "1")
                await asyncio.sleep(0.02)
        with pytest.raises(TransportError, match="no enrolled conductor"):
            open_bus(f"zmq://127.0.0.1:{free_port()}", identity("api-1", "api"), tmp_path)
    finally:
        await api.stop()
        await conductor.stop()


async def test_a_port_in_use_is_one_clear_error(two_conductors: ZeroMQWorld) -> None:
    world = two_conductors
    await world.bus("conductor-1", "conductor")
    second = world.make(identity("conductor-1", "conductor"))
    with pytest.raises(OSError, match="cannot listen on"):
        await second.start()
    await second.stop()
