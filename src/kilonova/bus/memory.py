"""The queue inside one process, and the faults a test may order.

It is a real queue: every message is encoded, signed, checked and decoded, and arrives in a later turn of the loop;
nothing is shared but bytes. With `Faults` it loses, doubles and delays, from a seed, so that a run can be
repeated. Every service of the process has a `MemoryBus` of its own on the one `MemoryHub`.
"""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field

from kilonova.bus.core import BusCore
from kilonova.bus.envelope import Identity, Kind
from kilonova.bus.trust import HubSecret, HubTrust


@dataclass
class Faults:
    """What a hub does wrong on purpose. Chances are per frame, 0..1; delays in seconds."""

    seed: int = 0
    drop: float = 0.0
    double: float = 0.0
    delay: float = 0.0
    """Chance of being late by a random time up to `delay_max`."""
    delay_max: float = 0.05
    random: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)


class MemoryHub:
    """Where the buses of one process meet."""

    def __init__(self, faults: Faults | None = None) -> None:
        self.faults = faults
        self.tap: list[bytes] | None = None
        """Set to a list to record every frame, in tests."""
        self.cut: set[str] = set()
        """Names of processes that nobody reaches just now, in tests."""
        self.secret = HubSecret()
        self.buses: dict[str, MemoryBus] = {}
        self.hosts: dict[str, MemoryBus] = {}
        self.listeners: dict[tuple[Kind, str], list[MemoryBus]] = {}
        self._turn = 0

    def index(self) -> None:
        """Rebuild who listens to what; called when a bus comes, goes or adds a topic."""
        self.listeners = {}
        for bus in self.buses.values():
            for key in bus.topics():
                self.listeners.setdefault(key, []).append(bus)

    def conductor(self, kind: Kind, method: str) -> MemoryBus | None:
        """Return the next bus in turn that takes this ask or report; one that lacks the method if none has it."""
        able = [
            bus for bus in self.buses.values() if bus.identity.role == "conductor" and bus.identity.name not in self.cut
        ]
        able = [bus for bus in able if bus.takes(kind, method)] or able
        if not able:
            return None
        self._turn += 1
        return able[self._turn % len(able)]

    def post(self, source: MemoryBus, target: MemoryBus, data: bytes) -> bool:
        """Put one frame into the target's queue."""
        if self.tap is not None:
            self.tap.append(data)
        loop = target.loop
        if loop is None or target.identity.name in self.cut or source.identity.name in self.cut:
            return False
        at = loop.time()
        faults = self.faults
        if faults is None:
            loop.call_soon(target.arrive, data, source, at)
            return True
        if faults.random.random() < faults.drop:
            return True
        for _ in range(2 if faults.random.random() < faults.double else 1):
            late = faults.random.random() * faults.delay_max if faults.random.random() < faults.delay else 0.0
            loop.call_later(late, target.arrive, data, source, at)
        return True


class _Way:
    """From one bus to another."""

    __slots__ = ("_hub", "_source", "_target", "incarnation", "name")

    def __init__(self, hub: MemoryHub, source: MemoryBus, target: MemoryBus) -> None:
        self._hub, self._source, self._target = hub, source, target
        self.name, self.incarnation = target.identity.name, target.identity.incarnation

    def send(self, data: bytes) -> bool:
        return self._hub.post(self._source, self._target, data)


class MemoryBus(BusCore):
    """One service's bus on a hub."""

    def __init__(self, hub: MemoryHub, identity: Identity, *, inflight: int = 65536) -> None:
        super().__init__(identity, HubTrust(hub.secret, identity), inflight=inflight)
        self.hub = hub
        self._ways: dict[MemoryBus, _Way] = {}

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        return self._loop

    async def start(self) -> None:
        await super().start()
        self.hub.buses[self.identity.name] = self
        for host in self._hosts:
            self.hub.hosts[host] = self
        self.hub.index()
        if self.identity.role == "conductor":
            for bus in list(self.hub.buses.values()):
                if bus.identity.role == "host":
                    bus._reconnected()

    async def stop(self) -> None:
        self._loop = None
        if self.hub.buses.get(self.identity.name) is self:
            del self.hub.buses[self.identity.name]
        for host in [host for host, bus in self.hub.hosts.items() if bus is self]:
            del self.hub.hosts[host]
        self.hub.index()
        for bus in self.hub.buses.values():
            bus._ways.pop(self, None)
            bus._fail_pending(lambda name: name == self.identity.name)
        await super().stop()

    def topics(self) -> list[tuple[Kind, str]]:
        return [(Kind.WAKE, topic) for topic in self._wakes] + [(Kind.FANOUT, topic) for topic in self._fanouts]

    def takes(self, kind: Kind, method: str) -> bool:
        """Tell whether this conductor can answer."""
        return method in self._answers if kind is Kind.ASK else self._report is not None

    def arrive(self, data: bytes, source: MemoryBus, at: float) -> None:
        """Take one frame from the queue."""
        if self._loop is not None:
            self.receive(data, self._way(source), at)

    def _handlers_changed(self) -> None:
        if self._loop is not None:
            self.hub.index()

    def _host_added(self, host: str) -> None:
        if self._loop is not None:
            self.hub.hosts[host] = self

    def _way(self, target: MemoryBus) -> _Way:
        way = self._ways.get(target)
        if way is None:
            way = self._ways[target] = _Way(self.hub, self, target)
        return way

    def _host_peer(self, host: str) -> _Way | None:
        target = self.hub.hosts.get(host)
        return None if target is None else self._way(target)

    def _conductor_peer(self, kind: Kind, method: str) -> _Way | None:
        target = self.hub.conductor(kind, method)
        return None if target is None else self._way(target)

    def _spread(self, kind: Kind, topic: str, data: bytes) -> None:
        for bus in self.hub.listeners.get((kind, topic), ()):
            if bus is not self:
                self.hub.post(self, bus, data)
