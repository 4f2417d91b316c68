"""A compute process dies by SIGKILL in the middle of commands; its successor and the caller put things right."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from compute_cloud import SERVER, destroy, encode, spawn, until

from kilonova.bus.api import Accepted, BusError, RemoteError, Result, Sender
from kilonova.bus.core import BusCore
from kilonova.bus.enrolment import create_keys, enrol
from kilonova.bus.envelope import identity
from kilonova.bus.factory import open_bus
from kilonova.compute.virt.sim.world import SimWorld
from kilonova.model.command import Command, HostBeats, StepResult

HOSTS = ("sim-1", "sim-2")
_result = msgspec.json.Decoder(StepResult)
_beats = msgspec.json.Decoder(HostBeats)


class Stage:
    """A conductor here, a compute process there, the sim world between."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.keys = directory, directory / "keys"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{probe.getsockname()[1]}"
        self.url = f"zmq://conductor-1@{address}"
        enrol(self.keys, create_keys(self.keys, "conductor-1").public("conductor-1", "conductor", (), address))
        enrol(self.keys, create_keys(self.keys, "compute-1").public("compute-1", "host", ("sim-*",)))
        self.world = SimWorld(directory / "world.db")
        self.child: asyncio.subprocess.Process | None = None
        self.results: list[StepResult] = []
        bus = open_bus(self.url, identity("conductor-1", "conductor"), self.keys)
        assert isinstance(bus, BusCore)
        self.bus = bus

    async def start(self) -> None:
        self.bus.on_report(self._report)
        await self.bus.start()
        await self.start_child()

    async def _report(self, sender: Sender, payload: bytes) -> None:
        for report in _beats.decode(payload).reports:
            assert sender.may_speak_for(report.host)
            self.results += report.results

    async def start_child(self) -> None:
        self.child = await asyncio.create_subprocess_exec(
            sys.executable, str(Path(__file__).with_name("compute_child.py")), self.url, str(self.keys),
            str(self.directory / "world.db"), str(self.directory), *HOSTS,
        )  # fmt: skip
        await until(lambda: all(self.bus._host_peer(host) for host in HOSTS))

    async def reborn(self) -> None:
        """Wait for the child's death and start its successor."""
        assert self.child is not None
        async with asyncio.timeout(10):
            assert await self.child.wait() == -signal.SIGKILL
        with pytest.raises(BusError):
            await self.call(spawn((0, 0), key="into the void"))
        await self.start_child()

    async def call(self, command: Command, host: str = "sim-1") -> StepResult | None:
        answer = await self.bus.call(host, command.method, encode(command), ttl=5)
        if isinstance(answer, Accepted):
            return None
        assert isinstance(answer, Result)
        return _result.decode(answer.payload)

    async def done(self, command: Command) -> StepResult:
        """Repeat by key until there is a result, as the journal does."""
        async with asyncio.timeout(15):
            while True:
                try:
                    found = await self.call(command)
                except RemoteError:
                    raise
                except BusError:
                    found = None
                if found is not None and (found.ok or not found.retry):
                    return found
                await asyncio.sleep(0.02)

    async def stop(self) -> None:
        if self.child is not None and self.child.returncode is None:
            os.kill(self.child.pid, signal.SIGKILL)
            await self.child.wait()
        await self.bus.stop()
        self.world.close()


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    made = Stage(tmp_path)
    try:
        await made.start()
        yield made
    finally:
        await made.stop()


@pytest.mark.parametrize("point", ["before", "disk", "guest", "after"])
async def test_killed_in_the_middle_of_a_spawn(stage: Stage, point: str) -> None:
    stage.world.faults.set(host="sim-1", method="ensure_guest", point=point, action="kill", times=1)
    with pytest.raises(BusError):
        await stage.call(spawn((1, 1)))
    await stage.reborn()
    result = await stage.done(spawn((1, 1)))
    assert result.ok
    content = stage.world.snapshot()["sim-1"]
    assert [len(content.guests), len(content.disks)] == [1, 1]
    interrupted = [r for r in stage.results if r.code == "interrupted"]
    await until(lambda: interrupted or [r for r in stage.results if r.code == "interrupted"])
    with pytest.raises(RemoteError):
        await stage.call(spawn((0, 9), key="zombie"))
    assert (await stage.done(destroy((2, 1)))).ok
    assert stage.world.empty()


@pytest.mark.parametrize("point", ["guest", "after"])
async def test_killed_in_the_middle_of_a_destroy(stage: Stage, point: str) -> None:
    assert (await stage.done(spawn((1, 1)))).ok
    stage.world.faults.set(host="sim-1", method="ensure_absent", point=point, action="kill", times=1)
    with pytest.raises(BusError):
        await stage.call(destroy((2, 1)))
    await stage.reborn()
    assert (await stage.done(destroy((2, 1)))).ok
    assert stage.world.empty()


async def test_a_zombie_owner_cannot_land_after_the_restart(stage: Stage) -> None:
    """A spawn hangs half done, its owner is replaced, the undo runs, the host is killed and restarted: still fenced."""
    rule = stage.world.faults.set(host="sim-1", method="ensure_guest", point="disk", action="hang")
    assert await stage.call(spawn((1, 1))) is None
    assert (await stage.done(destroy((1, 2, 1), key="op1/build/undo"))).ok
    stage.world.faults.remove(rule)
    assert stage.child is not None
    os.kill(stage.child.pid, signal.SIGKILL)
    await stage.reborn()
    with pytest.raises(RemoteError) as caught:
        await stage.call(spawn((1, 1)))
    assert caught.value.code == "fenced"
    assert stage.world.empty()


async def test_results_are_known_to_the_successor(stage: Stage) -> None:
    first = await stage.done(spawn((1, 1)))
    assert stage.child is not None
    os.kill(stage.child.pid, signal.SIGKILL)
    await stage.reborn()
    stage.world.faults.set(host="sim-1", method="ensure_guest", point="before", action="refused")
    again = await stage.done(spawn((1, 1)))
    assert again.key == first.key and bytes(again.output) == bytes(first.output)
    assert (await stage.call(spawn((1, 1), server=SERVER), host="sim-2")) is not None
