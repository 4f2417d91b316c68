"""Where a driver keeps a guest's files: DIR/instances/<uuid>/.

Always holds: a file under its final name is whole (made as `*.part`, then renamed), and only names listed
here are ever removed, so a stranger's file in our tree survives a purge. Names end as AppArmor's profile for
libvirt expects them (`disk`, `*.iso`).
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

DISK = "disk"
EPHEMERAL = "disk.ephemeral"
SWAP = "disk.swap"
CONFIG_DRIVE = "config-drive.iso"
CONSOLE = "console.log"
DEFINITION = "guest.json"
_DISKS = (DISK, EPHEMERAL, SWAP)
_REST = (CONFIG_DRIVE, CONSOLE, DEFINITION, "pid")


class Layout:
    """The files of all guests of one host. Nothing here is slow; all of it touches the disk."""

    def __init__(self, directory: Path) -> None:
        self.root = directory / "instances"

    def of(self, uuid: str) -> Path:
        return self.root / uuid

    def make(self, uuid: str) -> Path:
        """The guest's directory; others may pass through but not list it."""
        home = self.of(uuid)
        for path in (self.root, home):
            path.mkdir(exist_ok=True, parents=True)
            path.chmod(0o711)
        return home

    def file(self, uuid: str, name: str) -> Path:
        return self.of(uuid) / name

    def uuids(self) -> list[str]:
        """Guests that have a directory here, whatever else is left of them."""
        try:
            return sorted(p.name for p in self.root.iterdir() if p.is_dir() and len(p.name) == 36)
        except FileNotFoundError:
            return []

    def remove(self, uuid: str, keep_disks: bool = False) -> bool:
        """Remove what we made for a guest. True if there was anything."""
        home = self.of(uuid)
        names = _REST if keep_disks else (*_DISKS, *_REST)
        found = False
        try:
            entries = list(os.scandir(home))
        except FileNotFoundError:
            return False
        for entry in entries:
            # `disk` also stands for `disk.part`, `console.log` for virtlogd's rotated `console.log.0`.
            base, _, tail = entry.name.rpartition(".")
            if entry.name in names or (base in names and (tail == "part" or tail.isdigit())):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(entry.path)
                found = True
            elif entry.name == "uml" and entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
                found = True
        with contextlib.suppress(OSError):
            home.rmdir()
        return found
