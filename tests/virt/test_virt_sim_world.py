"""The sim world: it outlives processes, breaks on demand, and tells a checker what is there."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import pytest
from virt_images import CONFIG_DRIVE, make_spec

from kilonova.compute.virt.driver import Refused, Transient
from kilonova.compute.virt.sim.driver import SimDriver
from kilonova.compute.virt.sim.world import HostSize, SimWorld
from kilonova.model.power import PowerState


def quiet(_percent: int, _detail: str) -> None:
    pass


@pytest.fixture
def world(tmp_path: Path) -> SimWorld:
    return SimWorld(tmp_path / "sim" / "world.db")


@pytest.mark.parametrize(
    ("point", "left"), [("before", ""), ("disk", "d"), ("tap", "dt"), ("guest", "dtg"), ("after", "dtg")]
)
async def test_a_failure_leaves_what_was_made_before_it(world: SimWorld, point: str, left: str) -> None:
    driver, spec = SimDriver(world, "a"), make_spec()
    world.faults.set(host="a", method="ensure_guest", point=point, action="transient", times=1)
    with pytest.raises(Transient):
        await driver.ensure_guest(spec, None, None, quiet)
    content = world.snapshot().get("a")
    seen = "d" * len(content.disks) + "t" * len(content.taps) + "g" * len(content.guests) if content else ""
    assert seen == left
    assert (await driver.ensure_guest(spec, None, None, quiet)).power_state == PowerState.RUNNING


async def test_faults_touch_only_what_they_name(world: SimWorld) -> None:
    world.faults.set(host="a", method="ensure_guest", action="refused")
    spec = make_spec()
    await SimDriver(world, "b").ensure_guest(spec, None, None, quiet)
    with pytest.raises(Refused):
        await SimDriver(world, "a").ensure_guest(spec, None, None, quiet)
    world.faults.clear()
    await SimDriver(world, "a").ensure_guest(spec, None, None, quiet)


async def test_a_hang_ends_when_its_rule_goes_even_from_outside(world: SimWorld) -> None:
    driver, spec = SimDriver(world, "a"), make_spec()
    rule = world.faults.set(method="ensure_guest", point="disk", action="hang")
    call = asyncio.create_task(driver.ensure_guest(spec, None, None, quiet))
    outside = SimWorld(world.path)
    async with asyncio.timeout(5):
        while not outside.snapshot():  # noqa: ASYNC110 - another process would see it so
            await asyncio.sleep(0)
    assert not call.done() and not outside.snapshot()["a"].guests
    outside.faults.remove(rule)
    assert (await asyncio.wait_for(call, 5)).power_state == PowerState.RUNNING
    outside.close()


async def test_a_cancelled_call_leaves_the_others_alone(world: SimWorld) -> None:
    driver, specs = SimDriver(world, "a"), [make_spec() for _ in range(3)]
    calls = [asyncio.create_task(driver.ensure_guest(s, None, None, quiet)) for s in specs]
    await asyncio.sleep(0)
    calls[0].cancel()
    await asyncio.gather(*calls[1:])
    assert {f.uuid for f in await driver.guests()} >= {s.uuid for s in specs[1:]}


_CHILD = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from virt_images import make_spec
from kilonova.compute.virt.sim.driver import SimDriver
from kilonova.compute.virt.sim.world import SimWorld
async def main():
    driver = SimDriver(SimWorld(Path(sys.argv[1])), "a")
    while True:
        spec = make_spec()
        await driver.ensure_guest(spec, None, None, lambda p, d: None)
        print(spec.uuid, flush=True)
asyncio.run(main())
"""


def test_what_was_answered_survives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "world.db"
    command = [sys.executable, "-c", _CHILD, str(path), str(Path(__file__).parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout
        told = [child.stdout.readline().strip() for _ in range(50)]
        child.kill()
        told += child.stdout.read().split("\n")
    world = SimWorld(path)
    there = {guest.uuid for guest in world.snapshot()["a"].guests}
    assert {t for t in told if len(t) == 36} <= there
    world.close()


async def test_the_console_says_what_the_config_drive_said(world: SimWorld) -> None:
    driver, spec = SimDriver(world, "a"), make_spec()
    await driver.ensure_guest(spec, None, CONFIG_DRIVE, quiet)
    said = await driver.console_log(spec.uuid, 65536)
    for text in (b"config-drive: hostname h1", b"config-drive: key k ssh-ed25519 AAAA", b"h1 login:"):
        assert text in said
    for _ in range(1000):
        await driver.reboot(spec, "HARD", 0)
    assert len(await driver.console_log(spec.uuid, 1 << 20)) <= 65536


async def test_sizes_are_settable_and_kept(world: SimWorld) -> None:
    world.resize("small", HostSize(vcpus=2, memory_mb=1024, local_gb=10))
    await SimDriver(world, "small").ensure_guest(make_spec(root_gb=4), None, None, quiet)
    again = SimWorld(world.path)
    facts = await SimDriver(again, "small").facts()
    assert (facts.vcpus, facts.memory_mb, facts.local_gb, facts.free_disk_gb) == (2, 1024, 10, 6)
    assert (await SimDriver(again, "other").facts()).vcpus == 64
    again.close()


async def test_a_guest_costs_little(world: SimWorld) -> None:
    driver, specs = SimDriver(world, "a"), [make_spec() for _ in range(300)]

    async def cost() -> float:
        began = time.process_time()
        for spec in specs:
            await driver.ensure_guest(spec, None, CONFIG_DRIVE, quiet)
        for spec in specs:
            await driver.ensure_absent(spec.uuid)
        return (time.process_time() - began) / len(specs) / 2

    costs = [await cost() for _ in range(3)]
    assert min(costs) < 150e-6 * 1.5, costs
    assert world.empty()
