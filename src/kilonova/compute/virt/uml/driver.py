"""The User-Mode Linux driver: a guest is a directory with a definition, a raw disk and, when on, a process.

In small: one kernel (and initrd) of the host for all guests, one CPU, no network interface (a `user` NIC stays
unplugged), no power button. The config drive is the second block device. What is defined is in
`guest.json`, which also carries the mark of cloud and host; what runs is what /proc shows.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from kilonova.compute.virt import configdrive, disks, layout
from kilonova.compute.virt.driver import Changed, Image, Refused, ReportProgress
from kilonova.compute.virt.layout import Layout
from kilonova.compute.virt.tail import tail
from kilonova.compute.virt.threads import Threads
from kilonova.compute.virt.uml import processes
from kilonova.model.guest import GuestFact, GuestSpec, HostFacts
from kilonova.model.power import PowerState

_GIB = 1 << 30


class Definition(Struct, frozen=True, kw_only=True):
    """`guest.json`."""

    cloud: str
    host: str
    memory_mb: int
    name: str


class UmlDriver:
    """Guests of one host. `kernel`: the linux.uml binary; `initrd`: what all guests start with."""

    needs_image = True

    def __init__(
        self, directory: Path, hostname: str, cloud: str, kernel: str | None = None, initrd: str | None = None
    ) -> None:
        self.host, self.cloud = hostname, cloud
        self.layout = Layout(directory)
        self._directory = directory
        self._kernel = kernel or shutil.which("linux.uml") or "/usr/bin/linux.uml"
        self._initrd = initrd
        self._threads = Threads("uml", 4)
        self._changed: Changed = lambda _uuid: None
        self._watched: dict[str, int] = {}

    async def start(self, changed: Changed) -> None:
        self._changed = changed
        for fact in await self.guests():
            await self._watch(fact.uuid)

    async def stop(self) -> None:
        for uuid in list(self._watched):
            self._unwatch(uuid)
        self._threads.close()

    async def facts(self) -> HostFacts:
        space = await self._threads.run(self._space)
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20
        arch = os.uname().machine
        return HostFacts(
            hostname=self.host,
            hypervisor_type="UML",
            hypervisor_version=6_001_000,
            vcpus=os.cpu_count() or 1,
            memory_mb=memory,
            local_gb=space.total // _GIB,
            arch=arch,
            supported_instances=((arch, "uml", "uml"),),
            free_disk_gb=space.free // _GIB,
        )

    async def guests(self) -> list[GuestFact]:
        return await self._threads.run(lambda: [f for u in self.layout.uuids() if (f := self._look(u))])

    async def guest(self, uuid: str) -> GuestFact | None:
        return await self._threads.run(self._look, uuid)

    async def ensure_guest(
        self,
        spec: GuestSpec,
        image: Image | None,
        config_drive: Mapping[str, bytes] | None,
        progress: ReportProgress,
    ) -> GuestFact:
        home = await self._threads.run(self.layout.make, spec.uuid)
        there = set(await self._threads.run(os.listdir, home))
        progress(10, "disks")
        if layout.DISK not in there:
            if image is None and spec.image is not None:
                raise Refused("no_image", "no image was given for a disk that is not there")
            await self._disk(home / layout.DISK, image, spec.root_gb)
        progress(50, "config drive")
        if config_drive is not None and layout.CONFIG_DRIVE not in there:
            await self._threads.run(configdrive.write_iso, home / layout.CONFIG_DRIVE, dict(config_drive))
        progress(70, "guest")
        await self._threads.run(self._define, spec)
        if spec.running:
            await self._threads.run(self._run, spec.uuid, spec.memory_mb)
            await self._watch(spec.uuid)
        progress(100, "")
        return await self._seen(spec.uuid)

    async def ensure_absent(self, uuid: str, keep_disks: bool = False) -> None:
        await self._threads.run(self._end, uuid)
        await self._threads.run(self.layout.remove, uuid, keep_disks)

    async def power_on(self, spec: GuestSpec) -> GuestFact:
        await self._threads.run(self._need_disk, spec.uuid)
        await self._threads.run(self._define, spec)
        await self._threads.run(self._run, spec.uuid, spec.memory_mb)
        await self._watch(spec.uuid)
        return await self._seen(spec.uuid)

    async def power_off(self, uuid: str, graceful_s: int) -> GuestFact:
        await self._seen(uuid)
        if graceful_s > 0:
            await self._threads.run(processes.sync, self.layout.of(uuid))
        await self._threads.run(self._end, uuid)
        return await self._seen(uuid)

    async def reboot(self, spec: GuestSpec, kind: str, graceful_s: int) -> GuestFact:
        await self._threads.run(self._need_disk, spec.uuid)
        if kind == "SOFT":
            await self._threads.run(processes.sync, self.layout.of(spec.uuid))
        await self._threads.run(self._end, spec.uuid)
        return await self.power_on(spec)

    async def console_log(self, uuid: str, max_bytes: int) -> bytes:
        return await self._threads.run(tail, self.layout.file(uuid, layout.CONSOLE), max_bytes)

    # In pool threads.

    def _space(self) -> shutil._ntuple_diskusage:
        return shutil.disk_usage(self._directory)

    def _sign(self, uuid: str) -> str:
        return processes.mark(self.cloud, uuid)

    def _look(self, uuid: str) -> GuestFact | None:
        try:
            text = self.layout.file(uuid, layout.DEFINITION).read_bytes()
            defined = msgspec.json.decode(text, type=Definition)
        except (OSError, msgspec.DecodeError):
            return None
        if (defined.cloud, defined.host) != (self.cloud, self.host):
            return None
        running = processes.find(self.layout.of(uuid), self._sign(uuid)) is not None
        return GuestFact(uuid=uuid, power_state=PowerState.RUNNING if running else PowerState.SHUTDOWN)

    def _define(self, spec: GuestSpec) -> None:
        made = Definition(cloud=self.cloud, host=self.host, memory_mb=spec.memory_mb, name=spec.name)
        path = self.layout.file(spec.uuid, layout.DEFINITION)
        part = path.with_name(path.name + ".part")
        part.write_bytes(msgspec.json.encode(made))
        part.rename(path)

    def _need_disk(self, uuid: str) -> None:
        if not self.layout.file(uuid, layout.DISK).exists():
            raise Refused("no_disk", f"the disk of {uuid} is not on {self.host}")

    def _run(self, uuid: str, memory_mb: int) -> None:
        home, sign = self.layout.of(uuid), self._sign(uuid)
        if processes.find(home, sign) is not None:
            return
        shutil.rmtree(home / "uml", ignore_errors=True)
        (home / "uml").mkdir()
        arguments = [f"mem={memory_mb}M", f"ubd0={home / layout.DISK}", "con=null", "con0=null,fd:1", "ssl=null"]
        arguments += ["umid=kn", f"uml_dir={home / 'uml'}/"]
        if (home / layout.CONFIG_DRIVE).exists():
            arguments.append(f"ubd1r={home / layout.CONFIG_DRIVE}")
        arguments.append(f"initrd={self._initrd}" if self._initrd else "root=/dev/ubda1")
        processes.start(home, self._kernel, arguments, sign)

    def _end(self, uuid: str) -> None:
        processes.end(self._sign(uuid))
        self.layout.file(uuid, "pid").unlink(missing_ok=True)

    # On the loop.

    async def _seen(self, uuid: str) -> GuestFact:
        fact = await self._threads.run(self._look, uuid)
        if fact is None:
            raise Refused("no_guest", f"no guest {uuid} on {self.host}")
        return fact

    async def _disk(self, target: Path, image: Image | None, size_gb: int) -> None:
        """A raw disk; UML reads nothing else."""
        part = target.with_name(target.name + ".part")
        if image is not None:
            size = size_gb * _GIB or image.virtual_size
            if size < image.virtual_size:
                raise Refused("disk_too_small", f"the image needs {image.virtual_size} bytes, the disk has {size}")
            await disks.run("qemu-img", "convert", "-q", "-f", image.format, "-O", "raw", str(image.path), str(part))
        else:
            size = max(1, size_gb) * _GIB

        def finish() -> None:
            descriptor = os.open(part, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                os.ftruncate(descriptor, size)
            finally:
                os.close(descriptor)
            part.rename(target)

        await self._threads.run(finish)

    async def _watch(self, uuid: str) -> None:
        """Hint when the guest's process ends, whoever its parent is."""
        if uuid in self._watched:
            return
        pid = await self._threads.run(processes.find, self.layout.of(uuid), self._sign(uuid))
        if pid is None or uuid in self._watched:
            return
        try:
            watched = os.pidfd_open(pid)
        except OSError:
            self._changed(uuid)
            return

        def ended() -> None:
            self._unwatch(uuid)
            processes.reap(pid)
            self._changed(uuid)

        self._watched[uuid] = watched
        asyncio.get_running_loop().add_reader(watched, ended)

    def _unwatch(self, uuid: str) -> None:
        watched = self._watched.pop(uuid)
        asyncio.get_running_loop().remove_reader(watched)
        with contextlib.suppress(OSError):
            os.close(watched)


def purge(directory: Path, cloud: str) -> list[str]:
    """End the cloud's guests; their files go with the tree. Blocks."""
    said = []
    for uuid in Layout(directory).uuids():
        sign = processes.mark(cloud, uuid)
        if processes.all_marked(sign):
            processes.end(sign)
            said.append(f"guest {uuid}")
    return said
