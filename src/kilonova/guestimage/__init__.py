"""The guest image: a small Linux of our own that boots anywhere, built from the distribution's packages.

One call, ``build``, makes a whole disk with boot loader as qcow2: a cloud kernel, busybox, an SSH server and our
own scripts (the folder ``rootfs/``) that take host name, keys and user data from a config drive or the
metadata service. It needs apt, dpkg and qemu-img, and neither root nor a loop device. Importing this package
is cheap; it must not know anything of the cloud that uses the image.
"""

from __future__ import annotations

from kilonova.guestimage.builder import GuestImage, Progress, build, current
from kilonova.guestimage.errors import BuildError
from kilonova.guestimage.recipe import HOST_PACKAGES

__all__ = ["HOST_PACKAGES", "BuildError", "GuestImage", "Progress", "build", "current"]
