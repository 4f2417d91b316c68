"""The worlds in which the one conformance suite runs: buses of every transport, made alike."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kilonova.bus.core import BusCore
from kilonova.bus.enrolment import Directory, create_keys, enrol, load_keys, revoke
from kilonova.bus.envelope import Identity, identity
from kilonova.bus.memory import MemoryBus, MemoryHub

DEADLINE = 10.0


async def until(true: Callable[[], Any], seconds: float = DEADLINE) -> None:
    """Return when `true()` is; fail after the deadline."""
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110  # what it waits for has no event
            await asyncio.sleep(0.005)


class World:
    """Makes started buses by name and role, and stops all of them."""

    def __init__(self) -> None:
        self.buses: list[BusCore] = []

    async def bus(self, name: str, role: str, speaks_for: tuple[str, ...] = ()) -> BusCore:
        found = self.make(identity(name, role, speaks_for))
        await found.start()
        self.buses.append(found)
        await self.connected()
        return found

    def make(self, who: Identity) -> BusCore:
        raise NotImplementedError

    async def connected(self) -> None:
        """Return when everybody reaches everybody it should."""

    async def stop(self, bus: BusCore) -> None:
        self.buses.remove(bus)
        await bus.stop()

    async def close(self) -> None:
        for bus in list(self.buses):
            await self.stop(bus)


class MemoryWorld(World):
    def __init__(self) -> None:
        super().__init__()
        self.hub = MemoryHub()

    def make(self, who: Identity) -> MemoryBus:
        return MemoryBus(self.hub, who)


class ZeroMQWorld(World):
    """Conductors are `conductor-1` and `conductor-2`, the second configured only if `two`."""

    def __init__(self, directory: Path, two: bool = False) -> None:
        super().__init__()
        self.keys = directory
        names = ["conductor-1", "conductor-2"] if two else ["conductor-1"]
        self.conductors = [(name, f"127.0.0.1:{free_port()}") for name in names]
        for name, address in self.conductors:
            enrol(directory, create_keys(directory, name).public(name, "conductor", address=address))

    def make(self, who: Identity) -> BusCore:
        from kilonova.bus.zeromq import ZeroMQBus

        address = dict(self.conductors).get(who.name)
        keys = create_keys(self.keys, who.name)
        enrol(self.keys, keys.public(who.name, who.role, who.speaks_for, address or ""))
        return ZeroMQBus(
            who, load_keys(self.keys, who.name), Directory(self.keys), self.conductors, bind=address, dead=1.5
        )

    def revoke(self, name: str) -> None:
        revoke(self.keys, name)

    async def connected(self) -> None:
        from kilonova.bus.zeromq import ZeroMQBus

        buses = [bus for bus in self.buses if isinstance(bus, ZeroMQBus)]
        for bus in buses:
            bus._directory.refresh()
        living = {bus.identity.name for bus in buses if bus.identity.role == "conductor"}
        await until(lambda: all(link.up for bus in buses for link in bus._links if link.name in living))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
