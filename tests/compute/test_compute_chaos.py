"""Many servers over a queue that loses, doubles and delays, on hosts that fail: nothing is left, nothing is twice.

Each server is driven as the journal drives it: the same key until there is an outcome, a higher fence for what
comes next, results taken from answers or from reports. The seed is in the test's id.
"""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

import pytest
from compute_cloud import Cloud, destroy, spawn

from kilonova.bus.api import BusError, RemoteError
from kilonova.bus.memory import Faults
from kilonova.compute import reporter
from kilonova.compute.virt.sim.driver import SimDriver
from kilonova.compute.virt.sim.world import SimWorld
from kilonova.model.command import Command

HOSTS = [f"sim-{n}" for n in range(4)]


async def outcome(cloud: Cloud, command: Command, host: str, chance: random.Random) -> str:
    """Repeat by key until there is an outcome: `ok`, a definite code, or `fenced`."""
    while True:
        try:
            result = await asyncio.wait_for(cloud.call(command, host), 0.3)
        except RemoteError as error:
            if not error.retry:
                return error.code
            result = None
        except (BusError, TimeoutError):
            result = None
        if result is None:
            result = next((r for r in cloud.results() if r.key == command.key and not r.retry), None)
        if result is not None and not result.retry:
            return "ok" if result.ok else result.code
        await asyncio.sleep(0.01 * chance.random())


async def life(cloud: Cloud, number: int, chance: random.Random) -> None:
    """Boot one server somewhere, perhaps give up in the middle, and delete it."""
    server = f"{number:08d}-0000-4000-8000-000000000000"
    host = chance.choice(HOSTS)
    boot = asyncio.create_task(
        outcome(cloud, spawn((1, 1), key=f"{server}/boot", server=server), host, random.Random(number))
    )
    if chance.random() < 0.5:
        assert await boot == "ok"
    else:
        await asyncio.sleep(0.05 * chance.random())
    end = destroy((2, 1), key=f"{server}/delete", server=server)
    assert await outcome(cloud, end, host, chance) == "ok"
    assert await boot in ("ok", "fenced"), "a zombie's boot is refused or was before"


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_lives_under_faults(tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporter, "AGAIN_SECONDS", 0.02)
    world = SimWorld(tmp_path / "world.db")
    cloud = Cloud(tmp_path, {host: SimDriver(world, host) for host in HOSTS}, grace=0.005)
    await cloud.start()
    try:
        cloud.hub.faults = Faults(seed=seed, drop=0.1, double=0.1, delay=0.3, delay_max=0.02)
        for host, method, point in (
            ("sim-0", "ensure_guest", "disk"),
            ("sim-1", "ensure_guest", "after"),
            ("sim-2", "ensure_absent", "guest"),
        ):
            world.faults.set(host=host, method=method, point=point, action="transient", times=8)
        world.faults.set(host="sim-3", method="ensure_guest", point="tap", delay=0.02)
        chance = random.Random(seed)
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            for number in range(60):
                group.create_task(life(cloud, number, random.Random(chance.random())))
        assert world.empty(), world.snapshot()
    finally:
        cloud.hub.faults = None
        await cloud.stop()
        world.close()
