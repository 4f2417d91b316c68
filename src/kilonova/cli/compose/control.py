"""The control plane of a process: conductor, scheduler, relays and the feed of changes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Mapping
from typing import Any

from kilonova.bus.api import Bus
from kilonova.cli.compose.wakes import Wakes
from kilonova.conductor.service import OPERATION_TOPIC, Conductor
from kilonova.config.settings import Settings
from kilonova.db.feed import ChangeFeed
from kilonova.db.open import Databases
from kilonova.log import get_logger
from kilonova.model.placement import Ratios
from kilonova.network.port import NetworkPort
from kilonova.scheduler.service import Scheduler, SchedulerSettings

log = get_logger(__name__)


class Background:
    """Tasks that run as long as their owner; one that ends by itself is a bug and is logged."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[None]] = []

    def run(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.get_running_loop().create_task(work, name=name)
        task.add_done_callback(_ended)
        self._tasks.append(task)

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()


def _ended(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.error("%s ended: %r", task.get_name(), task.exception(), exc_info=task.exception())


def ratios(settings: Settings) -> Ratios:
    """What may be promised of a host, from Nova's options."""
    d = settings.default
    return Ratios(
        cpu=d.cpu_allocation_ratio or d.initial_cpu_allocation_ratio,
        ram=d.ram_allocation_ratio or d.initial_ram_allocation_ratio,
        disk=d.disk_allocation_ratio or d.initial_disk_allocation_ratio,
        reserved_cpus=d.reserved_host_cpus, reserved_memory_mb=d.reserved_host_memory_mb,
        reserved_disk_gb=d.reserved_host_disk_mb // 1024,
    )  # fmt: skip


def scheduler_settings(settings: Settings, *, grace_s: float | None = None) -> SchedulerSettings:
    """The scheduler's choices, from Nova's options."""
    f = settings.filter_scheduler
    multipliers: Mapping[str, float] = {
        name: getattr(f, name) for name in f.__struct_fields__ if name.endswith("_multiplier")
    }
    filters = tuple(f.enabled_filters) if settings.source("filter_scheduler", "enabled_filters") != "default" else None
    return SchedulerSettings(
        enabled_filters=filters, multipliers=dict(multipliers), down_after_s=float(settings.default.service_down_time),
        grace_s=grace_s,
    )  # fmt: skip


class Control:
    """One conductor with its scheduler."""

    def __init__(
        self, databases: Databases, bus: Bus, network: NetworkPort, settings: Settings, *, name: str, alone: bool
    ) -> None:
        self.databases, self.bus = databases, bus
        self.feed = ChangeFeed(databases.all())
        self.scheduler = Scheduler(databases.global_, scheduler_settings(settings))
        self.conductor = Conductor(
            databases.global_, databases.cells, bus, name=name, scheduler=self.scheduler, network=network,
            beat=self.scheduler.beat, ratios=ratios(settings), alone=alone, default_cell=settings.kilonova.cell,
            host=None if alone else settings.default.host,
            down_after_s=float(settings.default.service_down_time),
        )  # fmt: skip
        files = all(database.dialect == "sqlite" for database in databases.all())
        self._wakes = (
            None if alone and files else Wakes(bus, databases.all(), self._changed, self.conductor.me)
        )
        self._background = Background()

    def _changed(self, database: str) -> None:
        self.feed.wake(database)
        if database == self.databases.global_.name:
            self.scheduler.poke()

    def wake(self, topic: str, subject: str) -> None:
        """What the API tells: in this process without the queue."""
        if topic == OPERATION_TOPIC:
            self.conductor.wake(subject)

    def host_up(self, host: str, binary: str) -> bool:
        """Whether a service's beats arrive."""
        if binary != "nova-compute":
            return self.conductor.service_up(host, binary)
        try:
            return self.scheduler.liveness.is_up(host, time.monotonic())
        except AttributeError:  # the columns are not loaded yet
            return False

    async def start(self) -> None:
        await self.bus.start()
        await self.feed.start()
        self._background.run(self.feed.run(), "change feed")
        self._background.run(self.scheduler.run(), "scheduler")
        for relay in self._wakes.relays if self._wakes is not None else ():
            self._background.run(relay.run(), "relay")
        await self.conductor.start()

    async def stop(self) -> None:
        await self.conductor.stop()
        if self._wakes is not None:
            self._wakes.stop()
        await self._background.stop()
        await self.bus.stop()
