"""What a compute process tells of its hosts: that they live, and levels of what is on them.

Two loops. One beats each second, whatever else is slow. The other sends, as soon as there is something:
results that were promised, guests that a hypervisor event pointed at and that really look different, progress
each second, and each host's full report once a minute, spread evenly, and after a reconnect. What is not
acknowledged is read anew and sent again; so nothing is queued, only marked. Many hosts share an envelope.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping
from hashlib import blake2b

import msgspec

from kilonova.bus.api import Bus, BusError, RemoteError
from kilonova.compute.lanes import Lanes
from kilonova.compute.ledger import Ledger
from kilonova.compute.virt.driver import Driver, DriverError
from kilonova.log import get_logger
from kilonova.model.command import HostBeats, HostReport, StepResult
from kilonova.model.guest import GuestFact

log = get_logger(__name__)

BEAT_SECONDS = 1.0
FULL_SECONDS = 60
FULL_BATCH = 100
FULL_PAUSE = 0.1
"""At most FULL_BATCH full reports each FULL_PAUSE seconds."""
AGAIN_SECONDS = 1.0
BATCH_BYTES = 500_000

_encode = msgspec.json.Encoder().encode

Key = tuple[str, str, str]
"""(host, server, step key)."""


class _Batch:
    """What one envelope tells, so that it can be marked told or told again."""

    def __init__(self) -> None:
        self.results: dict[Key, StepResult] = {}
        self.looked: list[tuple[str, str, GuestFact | None]] = []
        self.full: dict[str, HostReport] = {}
        self.parts: dict[str, dict[str, object]] = {}

    def part(self, host: str) -> dict[str, object]:
        return self.parts.setdefault(host, {})


class Reporter:
    """The reports of one process."""

    def __init__(self, bus: Bus, process: str, drivers: Mapping[str, Driver], lanes: Lanes, ledger: Ledger) -> None:
        self.beat = 0
        self._bus, self._process, self._drivers, self._lanes, self._ledger = (
            bus, process, drivers, lanes, ledger,
        )  # fmt: skip
        self._seq = 0
        self._members = blake2b("\n".join(sorted(drivers)).encode(), digest_size=16).hexdigest()
        self._list_hosts = True
        self._owed: dict[Key, StepResult] = {}
        self._dirty: set[tuple[str, str]] = set()
        self._told: dict[str, dict[str, GuestFact]] = {}
        self._due: deque[str] = deque()
        self._queued: set[str] = set()
        self._turn = deque(drivers)
        self._share = 0.0
        self._next_full = 0.0
        self._progress_due = False
        self._something = asyncio.Event()

    # -- marks, set by the service

    def owe(self, host: str, result: StepResult) -> None:
        """Report this result until it is acknowledged."""
        self._owed[(host, result.server, result.key)] = result
        self._something.set()

    def look(self, host: str, server: str) -> None:
        """Something may have happened to a guest: report it if it differs from what was told."""
        self._dirty.add((host, server))
        self._something.set()

    def known(self, host: str, server: str, fact: GuestFact | None) -> None:
        """The control plane learns this from a command's result, so it counts as told."""
        if fact is None:
            self._told.get(host, {}).pop(server, None)
        else:
            self._told.setdefault(host, {})[server] = fact

    def reconnected(self) -> None:
        """A conductor may know nothing of us: list the members, tell everything."""
        self._list_hosts = True
        for host in self._turn:
            self._queue_full(host)
        self._something.set()

    def _queue_full(self, host: str) -> None:
        if host not in self._queued:
            self._queued.add(host)
            self._due.append(host)

    # -- loops

    async def run(self) -> None:
        """Beat and report until cancelled."""
        self.reconnected()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._beats())
            group.create_task(self._reports())

    async def _beats(self) -> None:
        loop = asyncio.get_running_loop()
        at = loop.time()
        while True:
            self.beat += 1
            self._tick()
            try:
                await self._send(())
            except BusError as error:
                if not isinstance(error, RemoteError) or error.code != "unknown_members":
                    log.debug("beat not delivered: %s", error)
            at = max(at + BEAT_SECONDS, loop.time())
            await asyncio.sleep(at - loop.time())

    def _tick(self) -> None:
        """Mark what is due this second: a sixtieth of the full reports, and progress."""
        self._share += len(self._turn) * BEAT_SECONDS / FULL_SECONDS
        while self._share >= 1:
            self._share -= 1
            self._queue_full(self._turn[0])
            self._turn.rotate(-1)
        self._progress_due = True
        if self._due or self._lanes.progress():
            self._something.set()

    async def _reports(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._something.wait()
            self._something.clear()
            batch = await self._gather()
            reports = self._assemble(batch)
            if reports:
                try:
                    await self._send(tuple(reports))
                except BusError as error:
                    log.debug("report not delivered: %s", error)
                    self._again(batch)
                    loop.call_later(AGAIN_SECONDS, self._something.set)
                    continue
            self._acknowledged(batch)
            if self._due:
                loop.call_later(max(0.0, self._next_full - loop.time()), self._something.set)

    def _assemble(self, batch: _Batch) -> list[HostReport]:
        """One report a host: what a full one says of guests is newer than single looks."""
        reports = []
        for host, part in batch.parts.items():
            full = batch.full.get(host)
            if full is None:
                reports.append(self._report(host, part))
            else:
                part.pop("guests", None)
                part.pop("gone", None)
                batch.full[host] = msgspec.structs.replace(full, **part)
        return [*reports, *batch.full.values()]

    async def _send(self, reports: tuple[HostReport, ...]) -> None:
        listed = self._list_hosts
        beats = HostBeats(
            process=self._process,
            incarnation=self._ledger.incarnation,
            beat=self.beat,
            members=self._members,
            hosts=tuple(self._drivers) if listed else None,
            reports=reports,
        )
        try:
            await self._bus.report(self._process, _encode(beats), ttl=5.0 if reports else BEAT_SECONDS)
        except RemoteError as error:
            if error.code == "unknown_members" and not listed:
                self._list_hosts = True
                self._something.set()
            raise
        if listed:
            self._list_hosts = False

    def _report(self, host: str, part: dict[str, object]) -> HostReport:
        self._seq += 1
        return HostReport(
            host=host,
            incarnation=self._ledger.incarnation,
            seq=self._seq,
            beat=self.beat,
            **part,  # type: ignore[arg-type]  # built in _gather with the fields' own types
        )

    # -- gathering

    async def _gather(self) -> _Batch:
        batch = _Batch()
        size = self._gather_results(batch)
        await self._gather_guests(batch)
        if self._progress_due:
            self._progress_due = False
            for host, progress in self._lanes.progress():
                part = batch.part(host)
                part["progress"] = (*part.get("progress", ()), progress)  # type: ignore[misc]
        if self._due and asyncio.get_running_loop().time() >= self._next_full:
            await self._gather_full(batch, size)
        return batch

    def _gather_results(self, batch: _Batch) -> int:
        size = 0
        for key, result in self._owed.items():
            size += 400 + len(result.output) + len(result.message)
            if size > BATCH_BYTES and batch.results:
                self._something.set()
                break
            batch.results[key] = result
            part = batch.part(key[0])
            part["results"] = (*part.get("results", ()), result)  # type: ignore[misc]
        return size

    async def _gather_guests(self, batch: _Batch) -> None:
        dirty, self._dirty = self._dirty, set()
        for host, server in dirty:
            if self._lanes.running(host, server):
                self._dirty.add((host, server))  # looked at when the command has ended
                continue
            number = self._number(host, server)
            try:
                fact = await self._drivers[host].guest(server)
            except Exception as error:
                _explain(error, "%s: cannot look at %s: %s", host, server)
                continue  # the full report tells it when the hypervisor is back
            if self._lanes.running(host, server) or self._number(host, server) != number:
                self._dirty.add((host, server))  # a command began meanwhile
                continue
            if fact == self._told.get(host, {}).get(server):
                continue
            batch.looked.append((host, server, fact))
            part = batch.part(host)
            if fact is None:
                part["gone"] = (*part.get("gone", ()), server)  # type: ignore[misc]
            else:
                part["guests"] = (*part.get("guests", ()), fact)  # type: ignore[misc]
            if number is not None:
                part["numbers"] = {**part.get("numbers", {}), server: number}  # type: ignore[dict-item]

    def _number(self, host: str, server: str) -> int | None:
        """The operation number of the last command begun for a server here."""
        entry = self._ledger.entries.get((host, server))
        return entry.fence.number if entry is not None else None

    def _fence_numbers(self, host: str, servers: Iterable[str]) -> dict[str, int]:
        numbers = {server: self._number(host, server) for server in servers}
        return {server: number for server, number in numbers.items() if number is not None}

    async def _gather_full(self, batch: _Batch, size: int) -> None:
        loop = asyncio.get_running_loop()
        self._next_full = loop.time() + FULL_PAUSE
        for _ in range(min(FULL_BATCH, len(self._due))):
            if size > BATCH_BYTES:
                break
            host = self._due.popleft()
            self._queued.discard(host)
            try:
                driver = self._drivers[host]
                facts = await driver.facts()
                with self._lanes.watch() as begun:
                    busy = set(self._lanes.busy(host))
                    guests = await driver.guests()
                busy.update(server for at, server in begun if at == host)
                told = tuple(g for g in guests if g.uuid not in busy)
                report = self._report(
                    host,
                    {
                        "full": True, "facts": facts, "busy": tuple(busy), "guests": told,
                        "numbers": self._fence_numbers(host, (g.uuid for g in told)),
                    },
                )  # fmt: skip
            except Exception as error:
                _explain(error, "%s: no %s report: %s", host, "full")
                loop.call_later(5 * AGAIN_SECONDS, self._full_again, host)
                continue
            batch.full[host] = report
            size += 600 + 120 * len(report.guests)

    def _full_again(self, host: str) -> None:
        self._queue_full(host)
        self._something.set()

    # -- after sending

    def _again(self, batch: _Batch) -> None:
        self._dirty.update((host, server) for host, server, _ in batch.looked)
        for host in batch.full:
            self._queue_full(host)

    def _acknowledged(self, batch: _Batch) -> None:
        for key, result in batch.results.items():
            if self._owed.get(key) is result:
                del self._owed[key]
            self._ledger.acknowledge(*key)
        for host, server, fact in batch.looked:
            self.known(host, server, fact)
        for host, report in batch.full.items():
            if report.guests or host in self._told:
                self._told[host] = {fact.uuid: fact for fact in report.guests}


def _explain(error: Exception, message: str, *facts: str) -> None:
    """Log a driver's own error in a line, anything else as the bug it is: reporting goes on either way."""
    log.warning(message, *facts, error, exc_info=None if isinstance(error, DriverError) else error)
