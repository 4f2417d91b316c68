"""Operating-system packages that each driver needs on Debian and Ubuntu, by release.

Names only: who installs them, and how, is not known here. A requirement is met by a program (or file) rather than
by a package, so hand-made installations count.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from msgspec import Struct

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Requirement(Struct, frozen=True):
    """`package` provides any of `programs` (names on PATH, or absolute paths)."""

    package: str
    programs: tuple[str, ...]


_QEMU = {"x86_64": "qemu-system-x86", "aarch64": "qemu-system-arm"}


def requirements(driver: str) -> tuple[Requirement, ...]:
    """What the driver needs on Debian 12, 13 and Ubuntu 22.04 or later; the names are the same on all."""
    machine = os.uname().machine
    match driver:
        case "libvirt":
            return (
                Requirement(_QEMU.get(machine, "qemu-system"), (f"qemu-system-{machine}",)),
                Requirement("qemu-utils", ("qemu-img",)),
                # The group, the user and the configuration of the system daemon.
                Requirement("libvirt-daemon-system", ("/etc/libvirt/qemu.conf",)),
                Requirement("libvirt-daemon", ("libvirtd", "virtqemud")),
                Requirement("libvirt-clients", ("virsh",)),
                # In Debian 13 the QEMU driver and the log daemon are packages of their own.
                Requirement("libvirt-daemon-driver-qemu", _qemu_driver()),
                Requirement("util-linux", ("unshare",)),
                Requirement("mount", ("mount",)),
            )
        case "uml":
            return (
                Requirement("user-mode-linux", ("linux.uml",)),
                Requirement("qemu-utils", ("qemu-img",)),
            )
    return ()


def missing(driver: str) -> list[str]:
    """Packages to install before the driver can work; empty when it can."""
    return [r.package for r in requirements(driver) if not any(_there(p) for p in r.programs)]


def _there(program: str) -> bool:
    return Path(program).exists() if program.startswith("/") else shutil.which(program, path=_PATH) is not None


def _qemu_driver() -> tuple[str, ...]:
    places = (f"/usr/lib/{os.uname().machine}-linux-gnu", "/usr/lib64", "/usr/lib")
    return tuple(f"{place}/libvirt/connection-driver/libvirt_driver_qemu.so" for place in places)
