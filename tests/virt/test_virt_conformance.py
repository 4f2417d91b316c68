"""What every driver must hold, tried on each. A new driver joins by one more world."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from virt_images import CONFIG_DRIVE, make_spec
from virt_worlds import HOST, World

from kilonova.compute.virt import registry
from kilonova.compute.virt.driver import Driver, Refused
from kilonova.model.guest import GuestFact, GuestSpec
from kilonova.model.power import PowerState

ON, OFF = PowerState.RUNNING, PowerState.SHUTDOWN


def quiet(_percent: int, _detail: str) -> None:
    pass


@asynccontextmanager
async def running(world: World, host: str = HOST, seen: asyncio.Queue[str] | None = None) -> AsyncIterator[Driver]:
    driver = world.driver(host)
    await driver.start(seen.put_nowait if seen else lambda _uuid: None)
    try:
        yield driver
    finally:
        await driver.stop()


async def spawn(driver: Driver, world: World, spec: GuestSpec) -> GuestFact:
    return await driver.ensure_guest(spec, world.image, CONFIG_DRIVE, quiet)


async def console_says(driver: Driver, uuid: str, text: bytes, times: int = 1) -> bytes:
    async with asyncio.timeout(30):
        while (said := await driver.console_log(uuid, 65536)).count(text) < times:  # noqa: ASYNC110 - a file
            await asyncio.sleep(0.05)
    return said


async def test_a_guest_lives_its_life_and_each_call_may_come_twice(world: World) -> None:
    spec = make_spec()
    async with running(world) as driver:
        for _ in range(2):
            assert (await spawn(driver, world, spec)).power_state == ON
        assert [f.uuid for f in await driver.guests()] == [spec.uuid]
        serial = world.disk_serial(spec.uuid)
        said = await console_says(driver, spec.uuid, world.hello)
        assert await driver.console_log(spec.uuid, 5) == said[-5:]
        for _ in range(2):
            assert (await driver.power_off(spec.uuid, 0)).power_state == OFF
        assert [f.power_state for f in await driver.guests()] == [OFF]
        for _ in range(2):
            assert (await driver.power_on(spec)).power_state == ON
        assert world.disk_serial(spec.uuid) == serial
        for _ in range(2):
            await driver.ensure_absent(spec.uuid)
        assert world.remains(spec.uuid) == []
        assert await driver.guest(spec.uuid) is None
        assert await driver.guests() == []
        assert await driver.console_log(spec.uuid, 100) == b""


@pytest.mark.parametrize("kind", ["SOFT", "HARD"])
async def test_a_reboot_boots_again_with_the_same_disk(world: World, kind: str) -> None:
    spec = make_spec()
    async with running(world) as driver:
        await spawn(driver, world, spec)
        serial = world.disk_serial(spec.uuid)
        await console_says(driver, spec.uuid, world.hello)
        assert (await driver.reboot(spec, kind, 1)).power_state == ON
        await console_says(driver, spec.uuid, world.hello, times=2)
        assert world.disk_serial(spec.uuid) == serial


async def test_a_fresh_driver_finds_what_another_left(world: World) -> None:
    spec, stopped = make_spec(), make_spec(running=False)
    async with running(world) as driver:
        await spawn(driver, world, spec)
        assert (await spawn(driver, world, stopped)).power_state == OFF
    async with running(world) as driver:
        found = {f.uuid: f.power_state for f in await driver.guests()}
        assert found == {spec.uuid: ON, stopped.uuid: OFF}
        assert await driver.guest(spec.uuid) == GuestFact(uuid=spec.uuid, power_state=ON)
        await driver.ensure_absent(spec.uuid)
        await driver.ensure_absent(stopped.uuid)
    assert world.remains(spec.uuid) == world.remains(stopped.uuid) == []


async def test_each_host_sees_its_own_guests_only(world: World) -> None:
    spec = make_spec()
    async with running(world) as driver, running(world, "host-2") as other:
        await spawn(driver, world, spec)
        assert await other.guests() == []
        assert await other.guest(spec.uuid) is None


async def test_what_is_not_there(world: World) -> None:
    spec = make_spec()
    async with running(world) as driver:
        await driver.ensure_absent(spec.uuid)
        with pytest.raises(Refused) as refused:
            await driver.power_on(spec)
        assert refused.value.code == "no_disk"
        with pytest.raises(Refused) as refused:
            await driver.power_off(spec.uuid, 0)
        assert refused.value.code == "no_guest"
        with pytest.raises(Refused):
            await driver.reboot(spec, "HARD", 0)
        assert world.remains(spec.uuid) == []


async def test_what_happens_behind_the_back_is_reported_truly(world: World) -> None:
    spec = make_spec()
    seen: asyncio.Queue[str] = asyncio.Queue()
    async with running(world, seen=seen) as driver:
        await spawn(driver, world, spec)
        world.kill_guest(spec.uuid)
        async with asyncio.timeout(10):
            while (fact := await driver.guest(spec.uuid)) is None or fact.power_state != OFF:
                assert await seen.get() == spec.uuid
        assert (await driver.power_on(spec)).power_state == ON
        serial = world.disk_serial(spec.uuid)
        world.forget_guest(spec.uuid)
        assert await driver.guest(spec.uuid) is None
        assert (await driver.power_on(spec)).power_state == ON
        assert world.disk_serial(spec.uuid) == serial


async def test_a_kill_between_effects_is_made_good(world: World) -> None:
    async with running(world) as driver:
        await driver.facts()
        for point in world.breaks:
            again, given_up = make_spec(), make_spec()
            await world.die_during_ensure(again, point)
            await world.die_during_ensure(given_up, point)
            assert (await spawn(driver, world, again)).power_state == ON
            await driver.ensure_absent(again.uuid)
            await driver.ensure_absent(given_up.uuid)
            assert world.remains(again.uuid) == world.remains(given_up.uuid) == []


async def test_disks_can_outlive_the_guest(world: World) -> None:
    spec = make_spec()
    async with running(world) as driver:
        await spawn(driver, world, spec)
        serial = world.disk_serial(spec.uuid)
        await driver.ensure_absent(spec.uuid, keep_disks=True)
        assert await driver.guest(spec.uuid) is None
        assert world.disk_serial(spec.uuid) == serial
        assert (await driver.power_on(spec)).power_state == ON
        await driver.ensure_absent(spec.uuid)
        assert world.remains(spec.uuid) == []


async def test_purge_takes_what_is_ours_and_nothing_else(world: World) -> None:
    specs = [make_spec(), make_spec(running=False)]
    async with running(world) as driver:
        for spec in specs:
            await spawn(driver, world, spec)
        untouched = world.plant_foreign()
    said = registry.purge(world.directory)
    assert untouched()
    assert len(said) >= 2
    for spec in specs:
        assert world.remains(spec.uuid) == []
    assert [line for line in registry.purge(world.directory) if "kept" not in line] == []


async def test_facts_add_up(world: World) -> None:
    async with running(world) as driver:
        facts = await driver.facts()
        assert facts.hostname == HOST and facts.arch == "x86_64"
        assert facts.vcpus >= 1 and facts.memory_mb > 64 and facts.local_gb >= facts.free_disk_gb > 0


async def test_many_at_once(world: World) -> None:
    specs = [make_spec(nics=()) for _ in range(4)]
    async with running(world) as driver:
        facts = await asyncio.gather(*(spawn(driver, world, s) for s in specs))
        assert [f.power_state for f in facts] == [ON] * 4
        await asyncio.gather(*(driver.ensure_absent(s.uuid) for s in specs))
        assert await driver.guests() == []
