"""What the conformance suite needs to know of each driver: how to look behind its back, and how to break it."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import msgspec
from virt_images import FileImage, boot_sector, tiny_initrd

from kilonova.compute.virt import registry
from kilonova.compute.virt.driver import Driver, Image
from kilonova.compute.virt.sim.world import SimWorld
from kilonova.model.guest import GuestSpec
from kilonova.model.power import PowerState

HOST = "host-1"


class World(ABC):
    """One host of one kind in a directory of its own."""

    kind: str
    options: dict[str, Any]
    image: Image | None = None
    breaks: tuple[int | str, ...]
    """Where `die_during_ensure` can die."""
    hello: bytes
    """What a guest says on its console."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.options = {}

    def driver(self, host: str = HOST) -> Driver:
        return registry.create(self.kind, self.directory, host, self.options)

    @abstractmethod
    def remains(self, uuid: str) -> list[str]:
        """All there is of a guest, by looking without the driver."""

    @abstractmethod
    def disk_serial(self, uuid: str) -> object:
        """Equal as long as the disk is the same one."""

    @abstractmethod
    def kill_guest(self, uuid: str) -> None: ...

    @abstractmethod
    def forget_guest(self, uuid: str) -> None: ...

    @abstractmethod
    def plant_foreign(self) -> Any:
        """Make something of a stranger's; a callable that says whether it is untouched and removes it."""

    @abstractmethod
    def uproot(self) -> None:
        """Remove what `plant_foreign` made outside the directory, if the test didn't come to it."""

    def prepare_break(self, point: int | str) -> int:
        """Make the child die at the point; the percentage to give it."""
        assert isinstance(point, int)
        return point

    async def die_during_ensure(self, spec: GuestSpec, point: int | str) -> None:
        die_at = self.prepare_break(point)
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            str(Path(__file__).with_name("virt_child.py")),
            self.kind,
            str(self.directory),
            HOST,
            msgspec.json.encode(self.options).decode(),
            msgspec.json.encode(spec).decode(),
            str(self.image.path) if self.image else "",
            self.image.format if self.image else "",
            str(die_at),
        )
        assert await asyncio.wait_for(child.wait(), 60) == -9


class SimHost(World):
    kind = "sim"
    breaks = ("before", "disk", "tap", "guest")
    hello = b"h1 login:"

    @property
    def world(self) -> SimWorld:
        return registry.sim_world(self.directory)

    def remains(self, uuid: str) -> list[str]:
        content = self.world.snapshot().get(HOST)
        things = [*content.guests, *content.disks, *content.taps] if content else []
        return [repr(thing) for thing in things if thing.uuid == uuid]

    def disk_serial(self, uuid: str) -> object:
        return [d.serial for d in self.world.snapshot()[HOST].disks if d.uuid == uuid]

    def kill_guest(self, uuid: str) -> None:
        self.world.force_power(HOST, uuid, PowerState.SHUTDOWN)

    def forget_guest(self, uuid: str) -> None:
        self.world.force_forget(HOST, uuid)

    def plant_foreign(self) -> Any:
        self.world.plant(HOST, "stranger", cloud="another", guest=True, disk=True, tap=True)

        def check() -> bool:
            world = SimWorld(self.directory / "sim" / "world.db")
            content = world.snapshot().get(HOST)
            world.close()
            self.uproot()
            return content is not None and bool(content.guests and content.disks and content.taps)

        return check

    def uproot(self) -> None:
        self.world.purge("another")

    def prepare_break(self, point: int | str) -> int:
        self.world.faults.set(method="ensure_guest", point=str(point), action="kill", times=1)
        return -1


class LibvirtHost(World):
    kind = "libvirt"
    breaks = (10, 50, 70, 100)
    hello = b"kilonova test guest"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.options = {"virt_type": "qemu"}
        images = directory / "images"
        images.mkdir()
        (images / "tiny.raw").write_bytes(boot_sector())
        self.image = FileImage(images / "tiny.raw", "raw")

    def virsh(self, *words: str) -> str:
        command = ["virsh", "-q", "-c", "qemu:///system", *words]
        return subprocess.run(command, capture_output=True, check=False, text=True, timeout=60).stdout

    def remains(self, uuid: str) -> list[str]:
        domains = [line for line in self.virsh("list", "--all", "--uuid").split() if line == uuid]
        return domains + [str(p) for p in (self.directory / "instances").rglob("*") if uuid in str(p)]

    def disk_serial(self, uuid: str) -> object:
        return (self.directory / "instances" / uuid / "disk").stat().st_ino

    def kill_guest(self, uuid: str) -> None:
        self.virsh("destroy", uuid)

    def forget_guest(self, uuid: str) -> None:
        self.virsh("destroy", uuid)
        self.virsh("undefine", uuid)

    def plant_foreign(self) -> Any:
        home = self.directory / "instances" / "00000000-0000-4000-8000-000000000001"
        home.mkdir(parents=True)
        (home / "somebody's notes").write_text("mine")
        domain = ET.fromstring(
            "<domain type='qemu'><name/><memory unit='MiB'>16</memory><os><type>hvm</type></os></domain>"
        )
        name = f"foreign-{self.directory.name}"
        domain.find("name").text = name  # type: ignore[union-attr]  # it is there, just above
        xml = self.directory / "foreign.xml"
        xml.write_bytes(ET.tostring(domain))
        self.virsh("define", str(xml))

        def check() -> bool:
            there = name in self.virsh("list", "--all", "--name").split()
            self.uproot()
            return there and (home / "somebody's notes").exists() and xml.exists()

        return check

    def uproot(self) -> None:
        self.virsh("undefine", f"foreign-{self.directory.name}")


class UmlHost(World):
    kind = "uml"
    stranger: subprocess.Popen[bytes] | None = None
    breaks = (10, 50, 70, 100)
    hello = b"kilonova test guest"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        (directory / "initrd").write_bytes(tiny_initrd())
        self.options = {"initrd": str(directory / "initrd")}
        (directory / "tiny.raw").write_bytes(boot_sector())
        self.image = FileImage(directory / "tiny.raw", "raw")

    def remains(self, uuid: str) -> list[str]:
        running = [p for p in os.listdir("/proc") if p.isdigit() and uuid in _command_line(p)]
        return running + [str(p) for p in (self.directory / "instances").rglob("*") if uuid in str(p)]

    def disk_serial(self, uuid: str) -> object:
        return (self.directory / "instances" / uuid / "disk").stat().st_ino

    def kill_guest(self, uuid: str) -> None:
        pid = (self.directory / "instances" / uuid / "pid").read_text()
        if uuid in _command_line(pid.strip()):
            os.kill(int(pid), signal.SIGKILL)

    def forget_guest(self, uuid: str) -> None:
        self.kill_guest(uuid)
        (self.directory / "instances" / uuid / "guest.json").unlink()

    def plant_foreign(self) -> Any:
        stranger = self.stranger = subprocess.Popen(["sleep", "600"])
        home = self.directory / "instances" / "00000000-0000-4000-8000-000000000001"
        home.mkdir(parents=True)
        (home / "pid").write_text(f"{stranger.pid}\n")
        (home / "somebody's notes").write_text("mine")

        def check() -> bool:
            there = stranger.poll() is None
            self.uproot()
            return there and (home / "somebody's notes").exists()

        return check

    def uproot(self) -> None:
        if self.stranger is not None:
            self.stranger.kill()
            self.stranger.wait()


def _command_line(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


@contextmanager
def place() -> Iterator[Path]:
    """A directory that QEMU's user may enter (pytest's own are closed to others)."""
    directory = Path(tempfile.mkdtemp(prefix="kn-virt-"))
    directory.chmod(0o711)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
