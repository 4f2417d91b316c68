"""Commands: fences, keys, lanes, and what failures look like."""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path

import msgspec
import pytest
from compute_cloud import (
    OTHER,
    SERVER,
    Cloud,
    FakeDriver,
    command,
    destroy,
    encode,
    image,
    power_off,
    spawn,
    spec,
    until,
)

from kilonova.bus.api import RemoteError, Result
from kilonova.compute.virt.driver import Refused, ReportProgress, Transient
from kilonova.model.command import (
    ConsoleArgs,
    ConsoleOutput,
    Fence,
    ForgetArgs,
    Forgotten,
    PowerArgs,
    RebootArgs,
)
from kilonova.model.guest import GuestFact, ImageRef
from kilonova.model.power import PowerState


async def code_of(call: object) -> str:
    with pytest.raises(RemoteError) as caught:
        await call  # type: ignore[misc]
    return caught.value.code


async def test_each_method_reaches_the_driver(cloud: Cloud, driver: FakeDriver) -> None:
    for fence, sent, output in (
        (1, spawn((1, 1)), PowerState.RUNNING),
        (2, power_off((2, 1)), PowerState.SHUTDOWN),
        (3, command("guest.power_on", (3, 1), args=PowerArgs(spec=spec())), PowerState.RUNNING),
        (4, command("guest.reboot", (4, 1), args=RebootArgs(spec=spec(), kind="HARD")), PowerState.RUNNING),
    ):
        result = await cloud.call(sent)
        assert result is not None and result.ok, fence
        fact = msgspec.json.decode(result.output, type=GuestFact)
        assert fact == GuestFact(uuid=SERVER, power_state=output)
    result = await cloud.call(command("guest.fence", (5, 1)))
    assert result is not None and result.ok and bytes(result.output) == b"null"
    result = await cloud.call(destroy((6, 1)))
    assert result is not None and result.ok
    assert [what for what, _ in driver.calls] == ["spawn", "off", "on", "reboot HARD", "destroy"]
    assert not driver.made


async def test_console_needs_no_fence_and_no_lane(cloud: Cloud, driver: FakeDriver) -> None:
    await cloud.call(destroy((9, 1)))
    driver.gate.clear()
    await cloud.call(spawn((10, 1)))
    for lines, text in ((None, "one\ntwo\nthree\n"), (2, "two\nthree\n"), (0, ""), (99, "one\ntwo\nthree\n")):
        result = await cloud.call(command("guest.console", (0, 0), args=ConsoleArgs(lines=lines)))
        assert result is not None
        assert msgspec.json.decode(result.output, type=ConsoleOutput).output == text
    result = await cloud.call(command("guest.console", (0, 0)))
    assert result is not None and result.ok


async def test_lower_fences_are_refused(cloud: Cloud, driver: FakeDriver) -> None:
    await cloud.call(destroy((3, 2, 1)))
    for fence in ((3, 2, 0), (3, 1, 1), (2, 9, 1)):
        assert await code_of(cloud.call(spawn(fence, key=str(fence)))) == "fenced"
    assert await cloud.call(spawn((3, 2, 1), key="same fence")) is not None
    assert await cloud.call(spawn((1, 1), key="elsewhere", server=OTHER)) is not None
    await cloud.restart_compute()
    assert await code_of(cloud.call(spawn((3, 2, 0), key="after restart"))) == "fenced"
    assert [what for what, _ in driver.calls] == ["destroy", "spawn", "spawn"]


async def test_fence_alone_shuts_out_what_is_older(cloud: Cloud, driver: FakeDriver) -> None:
    await cloud.call(command("guest.fence", (1, 1, 1)))
    assert await code_of(cloud.call(spawn((1, 1, 0)))) == "fenced"
    assert not driver.calls


async def test_a_known_key_is_answered_from_the_file(cloud: Cloud, driver: FakeDriver) -> None:
    first = await cloud.call(spawn())
    assert await cloud.call(spawn()) == first
    assert await cloud.call(spawn((1, 2))) == first, "a new owner asks with the same key"
    await cloud.restart_compute()
    assert await cloud.call(spawn((1, 2))) == first
    assert len(driver.calls) == 1


async def test_the_same_key_at_once_is_one_command(cloud: Cloud, driver: FakeDriver) -> None:
    driver.gate.clear()
    calls = [asyncio.create_task(cloud.call(spawn())) for _ in range(5)]
    await until(lambda: driver.calls)
    driver.gate.set()
    results = await asyncio.gather(*calls)
    assert len(driver.calls) == 1 and all(result == results[0] for result in results)


async def test_a_new_owner_joins_what_runs_under_its_key(cloud: Cloud, driver: FakeDriver) -> None:
    driver.gate.clear()
    assert await cloud.call(spawn((1, 1))) is None
    assert await cloud.call(spawn((1, 2))) is None
    assert await code_of(cloud.call(power_off((1, 1), key="old owner"))) == "fenced"
    driver.gate.set()
    await until(cloud.results)
    assert len(driver.calls) == 1 and cloud.results()[0].ok


async def test_one_command_at_a_time_on_a_server(cloud: Cloud, driver: FakeDriver) -> None:
    driver.gate.clear()
    keys = [f"step {n}" for n in range(4)]
    for key in keys:
        assert await cloud.call(spawn(key=key)) is None
    assert driver.most_running == 1
    assert await cloud.call(spawn(server=OTHER)) is None
    assert driver.most_running == 2, "another server has its own lane"
    driver.gate.set()
    await until(lambda: len(cloud.results()) == 5)
    mine = [result.key for result in cloud.results() if result.server == SERVER]
    assert mine == keys


async def test_a_higher_fence_stops_what_runs_and_throws_out_what_waits(cloud: Cloud, driver: FakeDriver) -> None:
    driver.gate.clear()
    driver.cleaning = asyncio.Event()
    slow = asyncio.create_task(cloud.call(spawn((1, 1))))
    await until(lambda: driver.calls)
    waiting = asyncio.create_task(cloud.call(spawn((1, 1), key="waits")))
    await asyncio.sleep(0)
    undo = asyncio.create_task(cloud.call(destroy((1, 1, 1))))
    assert await code_of(waiting) == "fenced"
    assert [what for what, _ in driver.calls] == ["spawn"], "the lane stays closed until the safe point"
    driver.gate.set()
    driver.cleaning.set()
    driver.cleaning = None
    result = await undo
    if result is None:
        await until(cloud.results)
        result = cloud.results()[0]
    assert result.ok and not driver.made
    assert (await asyncio.gather(slow, return_exceptions=True))[0] is None or slow.exception() is not None
    assert [what for what, _ in driver.calls] == ["spawn", "destroy"]


async def test_a_command_stopped_before_its_first_step_frees_the_lane(cloud: Cloud, driver: FakeDriver) -> None:
    lanes = cloud.service._lanes
    first = lanes.submit("host-1", spawn((1, 1)))
    second = lanes.submit("host-1", destroy((2, 1)))
    await second.wait(5)
    assert first.stopped and first.result is None
    assert second.result is not None and second.result.ok
    assert [what for what, _ in driver.calls] == ["destroy"]


async def test_a_lost_file_costs_only_a_repeated_ensure(cloud: Cloud, driver: FakeDriver, tmp_path: Path) -> None:
    await cloud.call(spawn((5, 1)))
    await cloud.stop_compute()
    (tmp_path / "ledger.log").unlink()
    await cloud.start_compute()
    result = await cloud.call(spawn((5, 1)))
    assert result is not None and result.ok
    assert len(driver.calls) == 2 and list(driver.made) == [SERVER]
    assert await code_of(cloud.call(spawn((4, 1), key="older"))) == "fenced"


@pytest.mark.parametrize(
    ("error", "code", "retry"),
    [
        (Transient("no_space", "disk full"), "no_space", True),
        (Transient("hypervisor", "libvirtd is away"), "hypervisor", True),
        (OSError(errno.ENOSPC, "No space left on device"), "no_space", True),
        (OSError(errno.EIO, "Input/output error"), "hypervisor", True),
        (Refused("refused", "not supported"), "refused", False),
        (ZeroDivisionError(), "internal", False),
    ],
)
async def test_failures_are_typed(cloud: Cloud, driver: FakeDriver, error: OSError, code: str, retry: bool) -> None:
    driver.fail = error
    result = await cloud.call(spawn())
    assert result is not None and (result.ok, result.code, result.retry) == (False, code, retry)
    driver.fail = None
    again = await cloud.call(spawn())
    assert again is not None and again.ok is retry, "what may work later is tried again, what is definite is not"


async def test_wrong_commands_are_refused(cloud: Cloud, driver: FakeDriver) -> None:
    assert await code_of(cloud.send("guest.paint", b"{}")) == "unknown_method"
    for payload in (b"", b"{", b"[]", b'{"server":1}'):
        assert await code_of(cloud.send("guest.spawn", payload)) == "refused"
    assert await code_of(cloud.send("guest.destroy", encode(spawn()))) == "refused"
    result = await cloud.call(command("guest.spawn", args={"spec": {}}))
    assert result is not None and (result.ok, result.code) == (False, "refused")
    crossed = spawn(server=SERVER)
    crossed = msgspec.structs.replace(crossed, server=OTHER)
    result = await cloud.call(crossed)
    assert result is not None and result.code == "refused"
    assert not driver.calls


async def test_forgetting_drops_results_but_not_the_fence(cloud: Cloud, driver: FakeDriver) -> None:
    await cloud.call(spawn((2, 1), key="a"))
    await cloud.call(power_off((2, 1), key="b"))
    payload = encode(ForgetArgs(items=(Forgotten(server=SERVER, keys=("a",)), Forgotten(server=OTHER))))
    assert await cloud.send("host.forget", payload) == Result(b"null")
    await cloud.call(spawn((2, 1), key="a"))
    await cloud.call(power_off((2, 1), key="b"))
    assert [what for what, _ in driver.calls] == ["spawn", "off", "spawn"]
    await cloud.send("host.forget", encode(ForgetArgs(items=(Forgotten(server=SERVER),))))
    assert not cloud.service.ledger.entry("host-1", SERVER).results
    await cloud.restart_compute()
    assert not cloud.service.ledger.entry("host-1", SERVER).results
    assert cloud.service.ledger.entry("host-1", SERVER).fence == Fence(2, 1, 0)
    assert await code_of(cloud.send("host.forget", b"[1]")) == "refused"


async def test_a_full_disk_under_the_ledger_is_no_space_and_recovers(
    cloud: Cloud, driver: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = cloud.service.ledger

    def full(data: bytes, sync: bool) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ledger, "_write", full)
    result = await cloud.call(spawn())
    assert result is not None and (result.code, result.retry) == ("no_space", True)
    assert not driver.calls, "no effect before the fence is safe"
    monkeypatch.undo()
    result = await cloud.call(spawn())
    assert result is not None and result.ok


async def test_the_config_drive_is_asked_for_and_handed_on(cloud: Cloud, driver: FakeDriver) -> None:
    cloud.drive = encode({"openstack/latest/user_data": b"\x00\xff", "ec2/latest/x": b""})
    await cloud.call(spawn(config_drive=True))
    assert driver.drives == [{"openstack/latest/user_data": b"\x00\xff", "ec2/latest/x": b""}]
    assert cloud.asked == [("host-1", encode({"server": SERVER}))]


async def test_a_config_drive_that_cannot_be_had(cloud: Cloud, driver: FakeDriver) -> None:
    cloud.drive_refusal = RemoteError("not_found", "no such server")
    result = await cloud.call(spawn(key="a", config_drive=True))
    assert result is not None and (result.code, result.retry) == ("not_found", False)
    cloud.hub.cut.add("conductor-1")
    job = cloud.service._lanes.submit("host-1", spawn(key="b", config_drive=True))
    await job.wait(5)
    assert job.result is not None and (job.result.code, job.result.retry) == ("unreachable", True)
    assert not driver.calls


class OneImage:
    """An image cache with one answer."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error, self.got = error, 0

    async def get(self, image: ImageRef, progress: ReportProgress) -> object:
        self.got += 1
        if self.error:
            raise self.error
        return self


@pytest.mark.parametrize(
    ("error", "code", "retry"),
    [
        (Refused("image_invalid", "a qcow2 with a backing file"), "image_invalid", False),
        (Refused("image_gone", "no data"), "image_gone", False),
        (Transient("no_space", "cache full"), "no_space", True),
        (None, "", False),
    ],
)
async def test_images_come_from_the_cache_or_refuse(
    tmp_path: Path, error: Exception | None, code: str, retry: bool
) -> None:
    driver, images = FakeDriver("host-1"), OneImage(error)
    driver.needs_image = True
    cloud = Cloud(tmp_path, {"host-1": driver}, images=images)
    await cloud.start()
    try:
        result = await cloud.call(spawn(image=image()))
        assert result is not None and (result.ok, result.code, result.retry) == (error is None, code, retry)
        assert images.got == 1 and driver.images == ([images] if error is None else [])
    finally:
        await cloud.stop()


async def test_a_durable_ledger_gives_the_same_answers(tmp_path: Path) -> None:
    driver = FakeDriver("host-1")
    cloud = Cloud(tmp_path, {"host-1": driver}, durable=True)
    await cloud.start()
    try:
        servers = [f"{n:08d}-1111-4111-8111-111111111111" for n in range(40)]
        results = await asyncio.gather(*(cloud.call(spawn(server=server)) for server in servers))
        assert all(result is not None and result.ok for result in results)
        await cloud.restart_compute()
        assert await cloud.call(spawn(server=servers[0])) == results[0]
        assert len(driver.calls) == 40
    finally:
        await cloud.stop()
