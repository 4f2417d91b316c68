"""The scheduler as a service: columns that stay fresh, and decisions on them.

Fresh by four rules (contracts: order of changes): a fanned-out state is applied if newer; each second (or when
poked) the changes after our position; each minute every generation is compared, in slices; own
choices are held until they show up. Columns are a cache: a stale one costs a refused claim, nothing else.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import TYPE_CHECKING

import msgspec

from kilonova.db.changes import Change, ChangeReader, Reset
from kilonova.db.database import Database
from kilonova.db.errors import DatabaseError
from kilonova.db.queries import host_columns as sql
from kilonova.log import get_logger
from kilonova.model.placement import (
    AGGREGATE_CHANGED,
    GONE,
    HOST_CHANGED,
    PROVIDER_CHANGED,
    SERVICE_CHANGED,
    ProviderState,
)
from kilonova.model.scheduling import Choice, Request

if TYPE_CHECKING:
    from kilonova.scheduler.columns import HostColumns
    from kilonova.scheduler.filters.protocol import Filter
    from kilonova.scheduler.liveness import Liveness
    from kilonova.scheduler.strategies import Load, Strategy

log = get_logger(__name__)
_decode_state = msgspec.json.Decoder(ProviderState).decode
_SLICE, _PART = 1000, 250
"""Generations compared, and hosts read again, at a time."""


class SchedulerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What operators choose; names in brackets are Nova's."""

    enabled_filters: tuple[str, ...] | None = None
    """[filter_scheduler] enabled_filters; None = the default ones."""
    weighers: tuple[str, ...] | None = None
    multipliers: dict[str, float] = {}
    """Nova's option name (ram_weight_multiplier, ...) -> value."""
    strategy: str = "filter"
    """filter, chance, zone or simple."""
    down_after_s: float = 60.0
    """[DEFAULT] service_down_time."""
    grace_s: float | None = None
    """For how long after start a host not heard of counts as up; None = as long as `down_after_s`."""
    compare_s: float = 60.0
    """How often all generations are compared."""


class Scheduler:
    """`SchedulerPort` over the global database; `run` must be running."""

    def __init__(
        self,
        db: Database,
        settings: SchedulerSettings | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        load: Load | None = None,
    ) -> None:
        self._db = db
        self._settings = settings or SchedulerSettings()
        self._clock = clock
        self._load = load
        self._reader = ChangeReader(db)
        self._position = 0
        self._compared = ""
        self._loaded = asyncio.Event()
        self._poked = asyncio.Event()
        self._beats: dict[str, tuple[tuple[str, ...], int]] = {}
        self.columns: HostColumns
        self.liveness: Liveness
        self._filters: tuple[Filter, ...]
        self._strategy: Strategy

    def __repr__(self) -> str:
        return f"<Scheduler {self.columns!r}>" if self._loaded.is_set() else "<Scheduler, not loaded>"

    # deciding

    async def choose(self, request: Request) -> Choice:
        """Places for all servers of the request, held for 10 s, or none with the reason."""
        if not self._loaded.is_set():
            await self._loaded.wait()
        from kilonova.scheduler.select import select

        return select(self.columns, self._filters, self._strategy, request, self._clock())

    def refused(self, servers: tuple[str, ...]) -> None:
        """Give back the places held for these servers."""
        if self._loaded.is_set():
            for server in servers:
                self.columns.let_go(server)

    # staying fresh

    async def run(self) -> None:
        """Load, then keep fresh until cancelled."""
        await self.load()
        compare_at = self._clock() + self._settings.compare_s
        while True:
            try:
                async with asyncio.timeout(1.0):
                    await self._poked.wait()
            except TimeoutError:
                pass
            self._poked.clear()
            try:
                await self.refresh()
                if self._clock() >= compare_at and not await self.compare_slice():
                    compare_at = self._clock() + self._settings.compare_s
            except DatabaseError as error:  # columns grow stale: claims still decide
                log.warning("scheduler columns are not fresh: %s", error)

    def poke(self) -> None:
        """There are new changes (a commit here, a wake from elsewhere)."""
        self._poked.set()

    def apply(self, state: ProviderState) -> None:
        """Take in a fanned-out state."""
        if self._loaded.is_set():
            self.columns.apply(state)

    def beat(self, hosts: tuple[str, ...], incarnation: str, counter: int) -> None:
        """Take in a beat of the process `incarnation` for the hosts it speaks for (the same tuple while they are)."""
        if self._loaded.is_set():
            self.liveness.beat(hosts, incarnation, counter, self._clock())
        else:
            self._beats[incarnation] = (hosts, counter)

    def host_down(self, host: str) -> None:
        """A host that said goodbye."""
        if self._loaded.is_set():
            self.liveness.down(host)

    async def load(self) -> None:
        """Read everything; decisions wait for the first time."""
        with ThreadPoolExecutor(1, thread_name_prefix="scheduler-import") as pool:
            await asyncio.get_running_loop().run_in_executor(pool, import_module, "kilonova.scheduler.select")
        from kilonova.scheduler import strategies
        from kilonova.scheduler.columns import HostColumns
        from kilonova.scheduler.filters import registry as filters
        from kilonova.scheduler.liveness import Liveness
        from kilonova.scheduler.loading import fill
        from kilonova.scheduler.weighers import registry as weighers

        settings = self._settings
        names = settings.enabled_filters
        self._filters = filters.build() if names is None else filters.build(names)
        self._strategy = strategies.build(
            settings.strategy, weighers.build(settings.weighers, settings.multipliers), self._load
        )
        position = await self._reader.position()  # before the reads: what comes meanwhile is seen again, and older
        columns = HostColumns()
        await fill(
            columns,
            sql.all_hosts(self._db),
            await sql.all_services(self._db),
            await sql.all_aggregates(self._db),
            sql.all_usage(self._db),
        )
        held = self.columns.holds.all() if self._loaded.is_set() else ()
        now = self._clock()
        liveness = Liveness(columns, settings.down_after_s, settings.grace_s)
        for host in columns.rows_of_host:
            liveness.watch(host, now)
        for incarnation, (members, counter) in self._beats.items():
            liveness.beat(members, incarnation, counter, now)
        self._beats.clear()
        for hold in held:
            row = columns.row.get(self.columns.uuid[hold.row])
            if row is not None and hold.until > now:
                columns.hold(hold.consumer, row, hold.resources, hold.until)
        self.columns, self.liveness, self._position = columns, liveness, position
        self._loaded.set()

    async def refresh(self) -> int:
        """Take in the changes after our position and judge the beats; how many changes there were."""
        seen = 0
        while True:
            try:
                batch = await self._reader.after(self._position, 500)
            except Reset:
                log.warning("scheduler columns are read anew: changes after %d are gone", self._position)
                await self.load()
                return seen
            await self._take_in(batch.changes)
            seen += len(batch.changes)
            self._position = batch.position
            if not batch.more:
                break
            await asyncio.sleep(0)
        self.columns.expire(self._clock())
        self.liveness.judge(self._clock())
        return seen

    async def _take_in(self, changes: Iterable[Change]) -> None:
        hosts: set[str] = set()
        services: set[str] = set()
        aggregates = False
        for change in changes:
            if change.kind == PROVIDER_CHANGED:
                self.columns.apply(_decode_state(change.payload))
            elif change.kind == HOST_CHANGED:
                hosts.add(change.subject)
                if change.generation == GONE:  # one that comes back begins to count anew
                    self.columns.drop_host(change.subject)
            elif change.kind == SERVICE_CHANGED:
                services.add(change.subject)
                if change.generation == GONE:
                    self._service_gone(change.payload)
            elif change.kind == AGGREGATE_CHANGED:
                aggregates = True
        if hosts:
            await self._reread(hosts)
        listed = sorted(services)
        for at in range(0, len(listed), _PART):
            for fact in await sql.services(self._db, listed[at : at + _PART]):
                self.columns.put_service(fact)
        if aggregates:
            self.columns.put_aggregates(await sql.all_aggregates(self._db))

    def _service_gone(self, payload: str) -> None:
        told = msgspec.json.decode(payload)
        if told["program"] == "nova-compute":
            self.columns.drop_service(told["host"])

    async def compare_slice(self) -> bool:
        """Compare the generations of the next 1,000 hosts and re-read those that differ; False at the end."""
        rows = await sql.generations(self._db, self._compared, _SLICE)
        columns = self.columns
        differ: set[str] = set()
        for uuid, described, generation in rows:
            row = columns.row.get(uuid)
            if row is None or columns.described[row] < described or columns.generation[row] < generation:
                differ.add(uuid)
        more = len(rows) == _SLICE
        upto = rows[-1][0] if more else "~"
        there = {row[0] for row in rows}
        differ.update(u for u in columns.row if self._compared < u <= upto and u not in there)
        self._compared = upto if more else ""
        if not more:
            await self._reread_services()
        if differ:
            await self._reread(differ)
        return more

    async def _reread_services(self) -> None:
        """One that is gone is as good as disabled."""
        facts = await sql.all_services(self._db)
        for fact in facts:
            self.columns.put_service(fact)
        for host in self.columns.services.keys() - {fact.host for fact in facts}:
            self.columns.drop_service(host)

    async def _reread(self, uuids: set[str]) -> None:
        listed = sorted(uuids)
        for at in range(0, len(listed), _PART):
            part = listed[at : at + _PART]
            found = await sql.hosts(self._db, part)
            new = sorted({fact.host for fact in found} - self.columns.services.keys())
            services = await sql.services_of(self._db, new) if new else []
            states = await sql.states(self._db, part)
            # From here nothing awaits: no decision sees a host without its service or its inventory.
            for service in services:
                self.columns.put_service(service)
            for fact in found:
                self.columns.put_host(fact)
                self.liveness.watch(fact.host, self._clock())
            for state in states.values():
                self.columns.apply(state)
            for uuid in uuids.intersection(part) - {fact.uuid for fact in found}:
                self.columns.drop_host(uuid)
