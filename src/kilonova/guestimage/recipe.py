"""What the image is made of on each distribution: the names of packages, and nothing else.

Debian and Ubuntu differ in their kernel packages only. A package that one distribution lacks is tried under
its other names in order. It must not know how packages are fetched or used.
"""

from __future__ import annotations

import platform
import re

from kilonova.guestimage.errors import BuildError
from kilonova.guestimage.packages import Apt, Package

HOST_PACKAGES = ("qemu-utils",)
"""What must be installed on the machine that builds, beside the apt and dpkg every Debian and Ubuntu has."""

KERNELS = ("linux-image-cloud-amd64", "linux-image-virtual", "linux-image-amd64")
"""Packages that depend on the kernel of today, the best for a guest first."""

GUEST = ("busybox-static", "dropbear-bin", "e2fsprogs")
TOOLS = ("syslinux", "mtools", "e2fsprogs", "zstd")
ALONE = ("syslinux-common",)
"""Wanted without what it depends on."""

_KERNEL_PARTS = re.compile(r"linux-(image|modules)(-unsigned)?-\d")


def check_machine() -> None:
    """Refuse, in one line, a machine whose guests could not run what is built."""
    if platform.machine() not in ("x86_64", "AMD64"):
        raise BuildError(f"the guest image can be built for x86_64 only, this machine is {platform.machine()}")


def choose(apt: Apt) -> list[Package]:
    """Return all packages the image and its making need, in the versions of today."""
    names = {*_kernel(apt), *apt.depends([*GUEST, *TOOLS]), *ALONE}
    packages = apt.packages(sorted(names))
    if missing := names - {package.name for package in packages}:
        raise BuildError(f"apt has no {', '.join(sorted(missing))} to download")
    return packages


def _kernel(apt: Apt) -> set[str]:
    problem: BuildError | None = None
    for meta in KERNELS:
        try:
            images = [name for name in apt.depends([meta], recurse=False) if _KERNEL_PARTS.match(name)]
        except BuildError as error:
            problem = error
            continue
        if images:
            below = [name for image in images for name in apt.depends([image], recurse=False)]
            return {name for name in [*images, *below] if _KERNEL_PARTS.match(name)}
    raise BuildError(f"apt knows none of {', '.join(KERNELS)}") from problem
