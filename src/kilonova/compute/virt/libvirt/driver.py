"""The libvirt driver: each call looks at the hypervisor and at the guest's files, then does what is missing.

Order of making: directory, disks, config drive, definition, run. Order of removing: guest, definition, files.
So at every moment what exists is found either by its domain (marked) or by its directory (in our tree).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from kilonova.compute.virt import configdrive, disks, layout
from kilonova.compute.virt.driver import Changed, Image, Refused, ReportProgress, Transient
from kilonova.compute.virt.layout import Layout
from kilonova.compute.virt.libvirt import daemon, guests, hostfacts
from kilonova.compute.virt.libvirt.connection import Connection
from kilonova.compute.virt.libvirt.domain import Files, Mark, build
from kilonova.compute.virt.tail import tail
from kilonova.compute.virt.threads import Threads
from kilonova.log import get_logger
from kilonova.model.guest import GuestFact, GuestSpec, HostFacts

P = ParamSpec("P")
T = TypeVar("T")
log = get_logger(__name__)
_RECONNECT_S = 1.0
_PRESS_AGAIN_S = 4.0
_LOOK_S = 0.5


class LibvirtDriver:
    """Guests of one host under `uri`, or under whatever daemon this machine has (`uri` None)."""

    needs_image = True

    def __init__(
        self, directory: Path, hostname: str, cloud: str, virt_type: str = "qemu", uri: str | None = None
    ) -> None:
        self.directory = directory.resolve()
        self.virt_type = virt_type
        self.mark = Mark(cloud, hostname)
        self.layout = Layout(self.directory)
        self._uri = uri
        self._files = Threads("libvirt-files", 2)
        self._connection: Connection | None = None
        self._changed: Changed = lambda _uuid: None
        self._lost = asyncio.Event()
        self._stirred: dict[str, asyncio.Event] = {}
        self._keeper: asyncio.Task[None] | None = None

    @property
    def uri(self) -> str:
        """The URI in use; empty before `start`."""
        return self._connection.uri if self._connection else ""

    async def start(self, changed: Changed) -> None:
        self._changed = changed
        self._connection = Connection(self._find, self._happened, self._lost.set)
        await self._connection.run(lambda conn: conn.getLibVersion())
        await self._in_files(self._open_paths)
        self._keeper = asyncio.get_running_loop().create_task(self._keep(), name="libvirt-keeper")

    async def stop(self) -> None:
        if self._keeper:
            self._keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._keeper
        if self._connection:
            await self._connection.close()
        self._files.close()

    async def facts(self) -> HostFacts:
        host, directory, kind = self.mark.host, self.directory, self.virt_type
        return await self._virt(lambda conn: hostfacts.read(conn, host, directory, kind), stats=True)

    async def guests(self) -> list[GuestFact]:
        return await self._virt(lambda conn: guests.list_ours(conn, self.mark), stats=True)

    async def guest(self, uuid: str) -> GuestFact | None:
        def look(conn: Any) -> GuestFact | None:
            domain = guests.find(conn, uuid)
            return guests.fact(domain) if domain is not None and guests.mark_of(domain) == self.mark else None

        return await self._virt(look, stats=True)

    async def ensure_guest(
        self,
        spec: GuestSpec,
        image: Image | None,
        config_drive: Mapping[str, bytes] | None,
        progress: ReportProgress,
    ) -> GuestFact:
        home, there = await self._in_files(self._look_home, spec.uuid)
        progress(10, "disks")
        await self._make_disks(spec, home, there, image)
        if config_drive is not None and layout.CONFIG_DRIVE not in there:
            progress(50, "config drive")
            await self._in_files(configdrive.write_iso, home / layout.CONFIG_DRIVE, dict(config_drive))
        progress(70, "guest")
        xml = await self._in_files(self._xml, spec)

        def make(conn: Any) -> GuestFact:
            domain = guests.ensure_defined(conn, spec.uuid, xml, self.mark)
            return guests.ensure_running(domain) if spec.running else guests.fact(domain)

        made = await self._virt(make)
        progress(100, "")
        return made

    async def ensure_absent(self, uuid: str, keep_disks: bool = False) -> None:
        def remove(conn: Any) -> None:
            domain = guests.find_ours(conn, uuid, self.mark)
            if domain is not None:
                guests.remove(domain)

        await self._virt(remove)
        await self._in_files(self.layout.remove, uuid, keep_disks)

    async def power_on(self, spec: GuestSpec) -> GuestFact:
        xml = await self._kept(spec)

        def on(conn: Any) -> GuestFact:
            return guests.ensure_running(guests.ensure_defined(conn, spec.uuid, xml, self.mark))

        return await self._virt(on)

    async def power_off(self, uuid: str, graceful_s: int) -> GuestFact:
        if graceful_s > 0:
            await self._shut_down(uuid, graceful_s)

        def off(conn: Any) -> GuestFact:
            domain = self._must(conn, uuid)
            guests.ensure_off(domain)
            return guests.fact(domain)

        return await self._virt(off)

    async def reboot(self, spec: GuestSpec, kind: str, graceful_s: int) -> GuestFact:
        xml = await self._kept(spec)
        if kind == "SOFT":
            await self._shut_down(spec.uuid, graceful_s)

        def again(conn: Any) -> GuestFact:
            domain = guests.find_ours(conn, spec.uuid, self.mark)
            if domain is not None:
                guests.ensure_off(domain)
            return guests.ensure_running(guests.ensure_defined(conn, spec.uuid, xml, self.mark))

        return await self._virt(again)

    async def console_log(self, uuid: str, max_bytes: int) -> bytes:
        return await self._in_files(tail, self.layout.file(uuid, layout.CONSOLE), max_bytes)

    # Steps.

    def _look_home(self, uuid: str) -> tuple[Path, set[str]]:
        home = self.layout.make(uuid)
        return home, set(os.listdir(home))

    async def _make_disks(self, spec: GuestSpec, home: Path, there: set[str], image: Image | None) -> None:
        if layout.DISK not in there:
            if image is not None:
                await self._in_files(self._let_read, image.path)
                await disks.overlay(home / layout.DISK, image, spec.root_gb)
            elif spec.image is None:
                await disks.empty(home / layout.DISK, max(1, spec.root_gb) * disks.GIB)
            else:
                raise Refused("no_image", "no image was given for a disk that is not there")
        if spec.ephemeral_gb and layout.EPHEMERAL not in there:
            await disks.empty(home / layout.EPHEMERAL, spec.ephemeral_gb * disks.GIB)
        if spec.swap_mb and layout.SWAP not in there:
            await disks.swap(home / layout.SWAP, spec.swap_mb << 20)

    async def _shut_down(self, uuid: str, seconds: float) -> None:
        """Ask by ACPI and wait until the guest is off or the time is over."""

        def ask(conn: Any) -> bool:
            return guests.press_power(self._must(conn, uuid))

        def is_on(conn: Any) -> bool:
            domain = guests.find_ours(conn, uuid, self.mark)
            return domain is not None and bool(domain.isActive())

        stirred = self._stirred[uuid] = asyncio.Event()
        try:
            if not await self._virt(ask):
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    loop = asyncio.get_running_loop()
                    again = loop.time() + _PRESS_AGAIN_S
                    while await self._virt(is_on, stats=True):
                        if loop.time() >= again:  # a guest that was still booting did not see the first press
                            await self._virt(ask)
                            again = loop.time() + _PRESS_AGAIN_S
                        # Events may be lost with the connection: look now and then as well.
                        with contextlib.suppress(TimeoutError):
                            await asyncio.wait_for(stirred.wait(), _LOOK_S)
                        stirred.clear()
        finally:
            self._stirred.pop(uuid, None)

    def _must(self, conn: Any, uuid: str) -> Any:
        domain = guests.find_ours(conn, uuid, self.mark)
        if domain is None:
            raise Refused("no_guest", f"no guest {uuid} on {self.mark.host}")
        return domain

    async def _kept(self, spec: GuestSpec) -> str:
        """The XML over the disks that are there."""
        if not await self._in_files(self.layout.file(spec.uuid, layout.DISK).exists):
            raise Refused("no_disk", f"the disk of {spec.uuid} is not on {self.mark.host}")
        return await self._in_files(self._xml, spec)

    def _xml(self, spec: GuestSpec) -> str:
        home = self.layout.of(spec.uuid)

        def there(name: str) -> Path | None:
            return home / name if (home / name).exists() else None

        files = Files(
            disk=home / layout.DISK,
            console=home / layout.CONSOLE,
            config_drive=there(layout.CONFIG_DRIVE),
            ephemeral=there(layout.EPHEMERAL),
            swap=there(layout.SWAP),
        )
        return build(spec, files, self.mark, self.virt_type, os.uname().machine)

    # The world around.

    def _find(self) -> str:
        return self._uri or daemon.ensure_daemon(self.directory)

    def _happened(self, uuid: str) -> None:
        if uuid in self._stirred:
            self._stirred[uuid].set()
        self._changed(uuid)

    async def _keep(self) -> None:
        """After a lost connection: get a new one, then hint at every guest, for events were missed."""
        while True:
            await self._lost.wait()
            self._lost.clear()
            log.warning("connection to libvirt lost", extra={"kn": {"uri": self.uri}})
            while True:
                try:
                    facts = await self.guests()
                    break
                except (Refused, Transient) as error:
                    log.warning("libvirt is away", extra={"kn": {"error": error.message}})
                    await asyncio.sleep(_RECONNECT_S)
            for fact in facts:
                self._happened(fact.uuid)

    def _open_paths(self) -> None:
        """Let QEMU's user reach its disks; say so at once if it never can. Note the URI for a purge."""
        (self.directory / "libvirt").mkdir(parents=True, exist_ok=True)
        (self.directory / "libvirt" / "uri").write_text(self.uri + "\n")
        self.layout.root.mkdir(parents=True, exist_ok=True)
        user = daemon.qemu_user(self.uri)
        if user is None:
            return
        for path in (self.directory, self.layout.root):
            path.chmod(path.stat().st_mode | 0o011)
        for parent in self.directory.parents:
            mode = parent.stat()
            if not mode.st_mode & 0o001 and not (mode.st_uid == user.pw_uid and mode.st_mode & 0o100):
                raise Refused("hypervisor", f"{user.pw_name}, who runs the guests, may not enter {parent}")

    def _let_read(self, path: Path) -> None:
        """Let QEMU's group read a cached image, and nobody else."""
        user = daemon.qemu_user(self.uri)
        if user is None:
            return
        path.parent.chmod(path.parent.stat().st_mode | 0o011)
        mode = path.stat()
        if mode.st_gid != user.pw_gid or not mode.st_mode & 0o040:
            os.chown(path, -1, user.pw_gid)
            path.chmod(0o640)

    async def _virt(self, call: Callable[[Any], T], stats: bool = False) -> T:
        if self._connection is None:
            raise Transient("hypervisor", "the driver has not been started")
        try:
            return await self._connection.run(call, stats)
        except Transient as error:
            if "virtlogd" not in error.message:
                raise
            # The daemon that writes console logs died; libvirtd does not start it again.
            await self._in_files(daemon.ensure_log_daemon, self.directory)
            return await self._connection.run(call, stats)

    async def _in_files(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await self._files.run(call, *args, **kwargs)
        except OSError as error:
            code = "no_space" if error.errno == errno.ENOSPC else "hypervisor"
            raise Transient(code, str(error)) from error
