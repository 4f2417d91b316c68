"""A random life of a whole cloud: requests, faults at every call, deaths of conductors and hosts; then the audit.

Seeded; ``KILONOVA_STORM=<first seed>,<how many>`` runs others and longer.
"""

from __future__ import annotations

import asyncio
import os
import random

import pytest

from conductor.small_cloud import SmallCloud, count, small_cloud
from kilonova.compute.virt.sim.world import HostSize
from kilonova.conductor.errors import Refused, Transient, UnknownEffect
from kilonova.model.power import PowerState

_FIRST, _COUNT = map(int, os.environ.get("KILONOVA_STORM", "1,3").split(","))
ROUNDS = 150


class Weather:
    """What happens to calls; the same object goes from one life of the conductor to the next."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.fair = False
        self.down: set[str] = set()

    async def __call__(self, call, go):
        if self.fair or call.port == "scheduler":
            return await go()
        if call.port in self.down:
            raise Transient("The compute host cannot be reached.", "unreachable")
        what = self.rng.random()
        if what < 0.10:
            await asyncio.sleep(self.rng.random() * 0.05)
            return await go()
        if what < 0.16:
            raise Transient("Away for a moment.", "away")
        if what < 0.22:
            await go()
            raise UnknownEffect("The answer is lost.", "unknown")
        if what < 0.26:
            await go()
            return await go()
        if call.port.startswith("db:"):
            return await go()  # effects in databases do not refuse
        if what < 0.29:
            raise Refused("No.", "refused")
        if what < 0.32:
            await go()
            raise Refused("No, but it is done.", "refused")
        if what < 0.33:
            await go()
            await asyncio.Event().wait()
        return await go()


class Storm:
    def __init__(self, cloud: SmallCloud, seed: int) -> None:
        self.first = self.cloud = cloud
        self.rng = random.Random(seed)
        self.weather = Weather(self.rng)
        self.servers: list[str] = []
        self.living: list[str] = []
        self.reset: set[str] = set()
        self.zombie: SmallCloud | None = None
        self.prepare(cloud)

    def prepare(self, cloud: SmallCloud) -> None:
        cloud.tap.hook = self.weather
        for executor in cloud.conductor.executors:
            executor.budget_scale, executor.least_s, executor.undo_budget_s = 0.01, 0.3, 0.2
            executor.ports = cloud.tap
        for reconciler in cloud.conductor.reconcilers:
            reconciler.budget_s = 0.5

    async def one(self) -> None:
        rng, cloud = self.rng, self.cloud
        some = rng.choice(self.living) if self.living else ""
        what = rng.random()
        if (what < 0.22 and len(self.living) < 12) or not some:
            made = await cloud.create(rng.choice((1, 1, 1, 2, 5)))
            self.servers += made
            self.living += made
        elif what < 0.35:
            if (await cloud.delete(some)).refused is None:
                self.living.remove(some)
        elif what < 0.52:
            await cloud.power_off(some)
        elif what < 0.62:
            await cloud.power_on(some)
        elif what < 0.73:
            await cloud.reboot(some, rng.choice(("SOFT", "HARD")))
        elif what < 0.75:
            self.reset.add(some)
            await cloud.reset(some, "error")
        elif what < 0.80:
            await self.crash()
        elif what < 0.84:
            await self.takeover()
        elif what < 0.88:
            host = f"host:{rng.choice(cloud.names)}"
            self.weather.down.add(host)
            self.later(self.weather.down.discard, host)
        elif what < 0.90:
            cloud.network.away = True
            self.later(setattr, cloud.network, "away", False)
        elif what < 0.93:
            for reconciler in cloud.conductor.reconcilers:
                await reconciler.pay()
        elif what < 0.95:
            server = await cloud.server(some)
            if server is not None and server.host and server.vm_state == "active":
                cloud.world.force_power(server.host, some, PowerState.SHUTDOWN, "by itself")
        elif what < 0.96:
            cloud.compute.ledger.entries.clear()
        else:
            cloud.compute.reporter.reconnected()

    def later(self, what, *args) -> None:
        asyncio.get_running_loop().call_later(self.rng.random(), what, *args)

    async def crash(self) -> None:
        await self.end_zombie()
        old = self.cloud
        self.cloud = await old.crash(wait=False)
        self.prepare(self.cloud)

    async def takeover(self) -> None:
        """Another conductor takes everything; the old one does not know and goes on for a while."""
        if self.zombie is not None:
            await self.end_zombie()
            return
        self.zombie = other = SmallCloud.beside(self.cloud)
        for executor in other.conductor.executors:
            executor.ports = self.cloud.tap
            executor.backoff_s = (0.01, 0.02, 0.05)
        self.prepare(other)
        await other.bus.start()
        await other.conductor.start()

    async def end_zombie(self) -> None:
        if self.zombie is None:
            return
        other, self.zombie = self.zombie, None
        await other.conductor.stop()
        await other.bus.stop()
        for owner in self.cloud.conductor.owners:
            await owner._adopt_all()

    async def calm(self) -> None:
        """All faults end; what was begun comes to its end, what is owed is paid."""
        self.weather.fair = True
        self.weather.down.clear()
        self.cloud.network.away = False
        await self.crash()
        cloud = self.cloud

        async def quiet() -> bool:
            for executor in cloud.conductor.executors:
                await executor.poll()
            for reconciler in cloud.conductor.reconcilers:
                await reconciler.pay()
            for database in cloud.databases.all():
                if await count(database, "SELECT COUNT(*) FROM operations WHERE ended_at IS NULL"):
                    return False
                if await count(database, "SELECT COUNT(*) FROM debts WHERE state = 'open'"):
                    return False
            return True

        await cloud.until(quiet, "every operation to end and every debt to be paid", 60)

    async def audited(self) -> None:
        """Nothing is wrong once the hosts have told what they see, and late ports are swept."""
        cloud, findings = self.cloud, []

        async def right() -> bool:
            cloud.compute.reporter.reconnected()
            await cloud.conductor.housekeeping.sweep()
            await asyncio.sleep(0.05)
            nonlocal findings
            findings = await cloud.audit()
            return not findings

        try:
            await cloud.until(right, "a clean audit", 15)
        except AssertionError as error:
            raise AssertionError("\n".join([str(error), *map(str, findings)])) from None


@pytest.mark.parametrize("seed", range(_FIRST, _FIRST + _COUNT))
async def test_a_storm_leaves_nothing_behind(databases, tmp_path, seed):
    size = HostSize(vcpus=4, memory_mb=4096, local_gb=100)
    async with small_cloud(databases, tmp_path, hosts=3, size=size) as cloud:
        storm = Storm(cloud, seed)
        try:
            for _ in range(ROUNDS):
                await storm.one()
                await asyncio.sleep(storm.rng.choice((0, 0, 0.002, 0.01, 0.05, 0.2)))
            await storm.calm()
            for uuid in storm.reset:
                await storm.cloud.delete(uuid)
            await storm.calm()
            await storm.audited()
            for uuid in storm.servers:
                await storm.cloud.delete(uuid)
            await storm.calm()
            await storm.audited()
            assert storm.cloud.seen().guests == ()
            assert await count(databases.global_, "SELECT COUNT(*) FROM server_index") == 0
            assert await count(databases.global_, "SELECT COUNT(*) FROM consumers") == 0
        finally:
            if storm.cloud is not cloud:
                await storm.end_zombie()
                await storm.cloud.stop()
