"""Operating-system packages: what is missing, said by name, and installed where that is allowed.

Why: a virtual machine needs QEMU and libvirt, which no Python index has. What always holds: a thing counts as
present by what it provides (a program, a module), never by a package manager's list; nothing is installed
unless we are root on Debian or Ubuntu; otherwise the exact command is printed and the process ends with 3.
Standard library only: the launcher uses it before there is anything else.
"""

from __future__ import annotations

import glob
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kilonova.cli import apt
from kilonova.cli.errors import MissingPackagesError

# A plain user's PATH lacks the folders where daemons live.
PROGRAM_PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"))


@dataclass(frozen=True)
class Need:
    """What a purpose (words that a user reads) takes: a test for it, and the Debian packages that give it."""

    purpose: str
    packages: tuple[str, ...]
    present: Callable[[], bool]


def program(name: str) -> str | None:
    """Return the path of an installed program, also of those only daemons use, or None."""
    return shutil.which(name, path=PROGRAM_PATH)


def by_programs(purpose: str, packages: Sequence[str], programs: Sequence[str]) -> Need:
    """A need that is met when every one of `programs` is installed."""
    return Need(purpose, tuple(packages), lambda: all(program(name) for name in programs))


def by_files(purpose: str, packages: Sequence[str], patterns: Sequence[str]) -> Need:
    """A need that is met when every one of the glob `patterns` matches something."""
    return Need(purpose, tuple(packages), lambda: all(glob.glob(pattern) for pattern in patterns))


def machine() -> str:
    """Return this machine's architecture as QEMU's programs name it, e.g. x86_64 or aarch64."""
    return os.uname().machine


def guests() -> tuple[Need, ...]:
    """What real virtual machines need: libvirt's daemons, QEMU for this architecture, disk images."""
    emulator = {"x86_64": "qemu-system-x86", "aarch64": "qemu-system-arm"}.get(machine(), "qemu-system")
    return (
        by_programs("virtual machines", (emulator,), (f"qemu-system-{machine()}",)),
        by_programs("disk images", ("qemu-utils",), ("qemu-img",)),
        by_programs("libvirt", ("libvirt-daemon-system",), ("libvirtd", "virtlogd")),
        by_programs("libvirt's command line", ("libvirt-clients",), ("virsh",)),
    )


def postgresql() -> Need:
    """A PostgreSQL server's programs; the tests start a private server of their own."""
    return by_files("PostgreSQL", ("postgresql",), ("/usr/lib/postgresql/*/bin/initdb",))


def is_debian() -> bool:
    """Whether this is Debian, Ubuntu or a child of theirs."""
    try:
        lines = Path("/etc/os-release").read_text().splitlines()
    except OSError:
        return False
    names = " ".join(line.split("=", 1)[1] for line in lines if line.startswith(("ID=", "ID_LIKE=")))
    return bool({"debian", "ubuntu"} & set(names.replace('"', "").split())) and bool(program("apt-get"))


def missing(needs: Sequence[Need]) -> list[Need]:
    """Return those `needs` that nothing on this system meets."""
    return [need for need in needs if not need.present()]


def command_for(packages: Sequence[str]) -> str:
    """Return the command a person types to install `packages`."""
    return f"{'' if os.geteuid() == 0 else 'sudo '}apt-get install -y {' '.join(packages)}"


def ensure(needs: Sequence[Need]) -> None:
    """See that all `needs` are met, installing what is missing when root on Debian or Ubuntu.

    Raises MissingPackagesError (exit code 3) with the exact command when that isn't allowed or didn't help.
    """
    lacking = missing(needs)
    if not lacking:
        return
    packages = list(dict.fromkeys(package for need in lacking for package in need.packages))
    purposes = ", ".join(dict.fromkeys(need.purpose for need in lacking))
    if not is_debian():
        raise MissingPackagesError(f"missing for {purposes}: what Debian calls {' '.join(packages)}")
    if os.geteuid() != 0:
        raise MissingPackagesError(f"missing for {purposes}; run: {command_for(packages)}")
    print(f"Missing for {purposes}: installing {' '.join(packages)}", file=sys.stderr, flush=True)
    apt.install(packages)
    left = missing(lacking)
    if left:
        names = ", ".join(need.purpose for need in left)
        raise MissingPackagesError(f"still missing after the installation: {names}")
