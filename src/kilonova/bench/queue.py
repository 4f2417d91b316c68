"""What the queue and the compute service cost: CPU per message, per command, and of ten thousand idle hosts."""

from __future__ import annotations

import asyncio
import socket
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from kilonova.bus.api import Bus, Result, Sender
from kilonova.bus.envelope import identity
from kilonova.bus.memory import MemoryBus, MemoryHub
from kilonova.compute.service import ComputeService
from kilonova.compute.virt.sim.driver import SimDriver
from kilonova.compute.virt.sim.world import SimWorld
from kilonova.model.command import Command, Fence, HostBeats, Method

PAYLOAD = bytes(600)

_beats = msgspec.json.Decoder(HostBeats)


async def cpu_us(work: Callable[[int], Awaitable[object]], times: int) -> float:
    """CPU of this process for one turn of `work`, in microseconds, both ends included."""
    started = time.process_time()
    for number in range(times):
        await work(number)
    return round((time.process_time() - started) / times * 1e6, 1)


async def _echo(sender: Sender, method: str, payload: bytes) -> Result:
    return Result(payload)


async def _take(sender: Sender, payload: bytes) -> None:
    _beats.decode(payload)


async def _secret(sender: Sender, payload: bytes) -> bytes:
    return payload


async def messages(conductor: Bus, host: Bus, times: int) -> dict[str, float]:
    """Cost of each kind of exchange between two connected buses."""
    heard: list[str] = []
    conductor.on_wake("operation", heard.append)
    conductor.answer("secret", _secret)

    async def wake(number: int) -> None:
        conductor.wake("operation", str(number))
        await asyncio.sleep(0)

    return {
        "call_us": await cpu_us(lambda _: conductor.call("host-1", "x", PAYLOAD, ttl=30), times),
        "ask_us": await cpu_us(lambda _: host.ask("host-1", "secret", PAYLOAD, ttl=30), times),
        "wake_self_us": await cpu_us(wake, times),
    }


async def memory(times: int = 3000) -> dict[str, float]:
    """The queue of one process."""
    hub = MemoryHub()
    conductor = MemoryBus(hub, identity("conductor-1", "conductor"))
    host = MemoryBus(hub, identity("host-1", "host"))
    host.serve("host-1", _echo)
    await conductor.start()
    await host.start()
    found = await messages(conductor, host, times)
    await host.stop()
    await conductor.stop()
    return found


async def zeromq(times: int = 500) -> dict[str, float]:
    """ZeroMQ over loopback, CURVE and Ed25519 included; both ends run here."""
    from kilonova.bus.enrolment import create_keys, enrol
    from kilonova.bus.factory import open_bus

    with tempfile.TemporaryDirectory() as directory, socket.socket() as probe:
        keys = Path(directory)
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
        probe.close()
        enrol(keys, create_keys(keys, "conductor-1").public("conductor-1", "conductor", (), address))
        enrol(keys, create_keys(keys, "host-1").public("host-1", "host"))
        url = f"zmq://{address}"
        conductor = open_bus(url, identity("conductor-1", "conductor"), keys)
        host = open_bus(url, identity("host-1", "host"), keys)
        connected = asyncio.Event()
        host.on_reconnect(connected.set)
        host.serve("host-1", _echo)
        await conductor.start()
        await host.start()
        await asyncio.wait_for(connected.wait(), 10)
        found = await messages(conductor, host, times)
        await host.stop()
        await conductor.stop()
        return found


async def compute(hosts: int = 10_000, times: int = 1000, idle_s: float = 4.0) -> dict[str, float]:
    """A process of sim hosts: one fenced command without effect, start, and a second of doing nothing."""
    with tempfile.TemporaryDirectory() as directory:
        world = SimWorld(Path(directory) / "world.db")
        hub = MemoryHub()
        conductor = MemoryBus(hub, identity("conductor-1", "conductor"))
        conductor.on_report(_take)
        bus = MemoryBus(hub, identity("compute-1", "host", ("sim-*",)))
        await conductor.start()
        await bus.start()
        names = [f"sim-{number:05d}" for number in range(hosts)]
        started = time.process_time()
        drivers = {name: SimDriver(world, name) for name in names}
        service = ComputeService(bus, "compute-1", drivers, Path(directory), durable=False)
        await service.start()
        start_ms = (time.process_time() - started) * 1e3
        await asyncio.sleep(hosts / 1000 + 2)  # the first full reports, spread
        started = time.process_time()
        await asyncio.sleep(idle_s)
        idle = (time.process_time() - started) / idle_s * 100

        async def fence(number: int) -> None:
            server = f"{number % 100:08d}-0000-4000-8000-000000000000"
            command = Command(server=server, fence=Fence(number, 1), key=f"op{number}", method=Method.FENCE)
            await conductor.call(names[0], Method.FENCE, msgspec.json.encode(command), ttl=30)

        found = await cpu_us(fence, times)
        await service.stop()
        await bus.stop()
        await conductor.stop()
        world.close()
        return {
            "hosts": hosts,
            "start_ms": round(start_ms, 1),
            "idle_percent": round(idle, 2),
            "fenced_command_us": found,
        }


async def run() -> dict[str, Any]:
    """All of it."""
    return {"memory": await memory(), "zeromq": await zeromq(), "compute": await compute()}
