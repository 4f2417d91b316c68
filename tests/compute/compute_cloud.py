"""A small cloud for the compute service: a conductor that notes reports, and hosts with a driver made of switches."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from kilonova.bus.api import Accepted, BusError, RemoteError, Result, Sender
from kilonova.bus.envelope import identity
from kilonova.bus.memory import MemoryBus, MemoryHub
from kilonova.compute.service import ComputeService
from kilonova.compute.virt.driver import Changed, Driver, DriverError, Image, ReportProgress
from kilonova.model.command import (
    Command,
    DestroyArgs,
    Fence,
    HostBeats,
    HostReport,
    PowerArgs,
    SpawnArgs,
    StepResult,
)
from kilonova.model.guest import GuestFact, GuestSpec, HostFacts, ImageRef
from kilonova.model.power import PowerState

SERVER = "11111111-1111-4111-8111-111111111111"
OTHER = "22222222-2222-4222-8222-222222222222"

encode = msgspec.json.encode
_beats = msgspec.json.Decoder(HostBeats)
_result = msgspec.json.Decoder(StepResult)


async def until(true: Callable[[], Any], seconds: float = 10.0) -> None:
    """Return when `true()` is; fail after the deadline."""
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110  # what it waits for has no event
            await asyncio.sleep(0.005)


class FakeDriver:
    """Guests in a dict; `gate` holds what makes or ends guests, `fail` is raised by it."""

    needs_image = False

    def __init__(self, host: str) -> None:
        self.host = host
        self.made: dict[str, GuestFact] = {}
        self.calls: list[tuple[str, str]] = []
        self.drives: list[Mapping[str, bytes] | None] = []
        self.images: list[Image | None] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.fail: DriverError | OSError | None = None
        self.fail_late: DriverError | None = None
        self.away: DriverError | None = None
        self.running = 0
        self.most_running = 0
        self.cleaning: asyncio.Event | None = None
        """If set, a cancelled call ends only when it is set: its way to a safe point."""
        self.changed: Changed = lambda uuid: None

    async def start(self, changed: Changed) -> None:
        self.changed = changed

    async def stop(self) -> None:
        pass

    async def facts(self) -> HostFacts:
        if self.away:
            raise self.away
        return HostFacts(
            hostname=self.host, hypervisor_type="fake", hypervisor_version=1, vcpus=4, memory_mb=4096,
            local_gb=100, arch="x86_64",
        )  # fmt: skip

    async def guests(self) -> list[GuestFact]:
        if self.away:
            raise self.away
        return list(self.made.values())

    async def guest(self, uuid: str) -> GuestFact | None:
        return self.made.get(uuid)

    async def _work(self, what: str, uuid: str) -> None:
        self.calls.append((what, uuid))
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            if self.fail:
                raise self.fail
            await self.gate.wait()
            if self.fail_late:
                raise self.fail_late
        except asyncio.CancelledError:
            if self.cleaning is not None:
                await asyncio.shield(self.cleaning.wait())
            raise
        finally:
            self.running -= 1

    async def ensure_guest(
        self,
        spec: GuestSpec,
        image: Image | None,
        config_drive: Mapping[str, bytes] | None,
        progress: ReportProgress,
    ) -> GuestFact:
        self.drives.append(config_drive)
        self.images.append(image)
        progress(40, "copying")
        await self._work("spawn", spec.uuid)
        return self._set(spec.uuid, PowerState.RUNNING)

    async def ensure_absent(self, uuid: str, keep_disks: bool = False) -> None:
        await self._work("destroy", uuid)
        self.made.pop(uuid, None)

    async def power_on(self, spec: GuestSpec) -> GuestFact:
        await self._work("on", spec.uuid)
        return self._set(spec.uuid, PowerState.RUNNING)

    async def power_off(self, uuid: str, graceful_s: int) -> GuestFact:
        await self._work("off", uuid)
        return self._set(uuid, PowerState.SHUTDOWN)

    async def reboot(self, spec: GuestSpec, kind: str, graceful_s: int) -> GuestFact:
        await self._work(f"reboot {kind}", spec.uuid)
        return self._set(spec.uuid, PowerState.RUNNING)

    async def console_log(self, uuid: str, max_bytes: int) -> bytes:
        return b"one\ntwo\nthree\n"[-max_bytes:]

    def _set(self, uuid: str, state: PowerState) -> GuestFact:
        fact = self.made[uuid] = GuestFact(uuid=uuid, power_state=state)
        self.changed(uuid)
        return fact


class Cloud:
    """One conductor and one compute process on a memory hub."""

    def __init__(self, directory: Path, drivers: Mapping[str, Driver], **options: Any) -> None:
        self.directory, self.drivers, self.options = directory, drivers, options
        self.hub = MemoryHub()
        self.conductor = MemoryBus(self.hub, identity("conductor-1", "conductor"))
        self.beats: list[HostBeats] = []
        self.refuse: BusError | None = None
        """Raised instead of acknowledging reports (beats without reports are acknowledged)."""
        self.drive: bytes = encode({"openstack/latest/meta_data.json": b"{}"})
        self.drive_refusal: RemoteError | None = None
        self.asked: list[tuple[str, bytes]] = []
        self.service: ComputeService
        self.bus: MemoryBus

    async def start(self) -> None:
        self.conductor.on_report(self._report)
        self.conductor.answer("server.config_drive", self._drive)
        await self.conductor.start()
        await self.start_compute()

    async def start_compute(self) -> None:
        self.bus = MemoryBus(self.hub, identity("compute-1", "host", tuple(self.drivers)))
        await self.bus.start()
        options = {"durable": False, **self.options}
        self.service = ComputeService(self.bus, "compute-1", self.drivers, self.directory, **options)
        await self.service.start()

    async def stop_compute(self) -> None:
        await self.service.stop()
        await self.bus.stop()

    async def restart_compute(self) -> None:
        await self.stop_compute()
        await self.start_compute()

    async def stop(self) -> None:
        await self.stop_compute()
        await self.conductor.stop()

    async def _report(self, sender: Sender, payload: bytes) -> None:
        beats = _beats.decode(payload)
        assert all(sender.may_speak_for(report.host) for report in beats.reports)
        if beats.reports and self.refuse is not None:
            raise self.refuse
        self.beats.append(beats)

    async def _drive(self, sender: Sender, payload: bytes) -> bytes:
        self.asked.append((sender.name, payload))
        if self.drive_refusal:
            raise self.drive_refusal
        return self.drive

    def reports(self) -> list[HostReport]:
        return [report for beats in self.beats for report in beats.reports]

    def results(self) -> list[StepResult]:
        return [result for report in self.reports() for result in report.results]

    async def call(self, command: Command, host: str = "host-1") -> StepResult | None:
        """Send a command; None means Accepted."""
        answer = await self.conductor.call(host, command.method, encode(command), ttl=10)
        return None if isinstance(answer, Accepted) else _result.decode(answer.payload)

    async def send(self, method: str, payload: bytes, host: str = "host-1") -> Accepted | Result:
        return await self.conductor.call(host, method, payload, ttl=10)


def spec(uuid: str = SERVER, **more: Any) -> GuestSpec:
    settings: dict[str, Any] = {"config_drive": False, **more}
    return GuestSpec(
        uuid=uuid, name="web", instance_name="instance-00000001", hostname="web", project_id="p", user_id="u",
        vcpus=1, memory_mb=64, root_gb=1, **settings,
    )  # fmt: skip


def image() -> ImageRef:
    return ImageRef(id="33333333-3333-4333-8333-333333333333", size=10)


def command(
    method: str, fence: tuple[int, ...] = (1, 1), key: str = "", server: str = SERVER, args: Any = None
) -> Command:
    return Command(
        server=server, fence=Fence(*fence), key=key or f"op{fence[0]}/{method}/", method=method,
        args=msgspec.Raw(encode(args)),
    )  # fmt: skip


def spawn(fence: tuple[int, ...] = (1, 1), key: str = "", server: str = SERVER, **more: Any) -> Command:
    return command("guest.spawn", fence, key, server, SpawnArgs(spec=spec(server, **more)))


def destroy(fence: tuple[int, ...] = (2, 1), key: str = "", server: str = SERVER) -> Command:
    return command("guest.destroy", fence, key, server, DestroyArgs())


def power_off(fence: tuple[int, ...] = (2, 1), key: str = "", server: str = SERVER) -> Command:
    return command("guest.power_off", fence, key, server, PowerArgs(spec=spec(server)))
