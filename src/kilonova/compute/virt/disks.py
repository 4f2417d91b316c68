"""Makes a guest's disks: qcow2 overlays over cached images, whole or not at all.

qemu-img makes them in a process of its own; a failed or killed one leaves a `*.part` that the next try
overwrites and `Layout.remove` finds.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from pathlib import Path

from kilonova.compute.virt.driver import Image, Refused, Transient

GIB = 1 << 30
_LIGHT = asyncio.Semaphore(8)


async def overlay(target: Path, image: Image, size_gb: int) -> None:
    """A qcow2 disk of `size_gb` (0 = the image's size) over the image."""
    size = size_gb * GIB or image.virtual_size
    if size < image.virtual_size:
        raise Refused("disk_too_small", f"the image needs {image.virtual_size} bytes, the disk has {size}")
    await _create(target, "-f", "qcow2", "-F", image.format, "-b", str(image.path.resolve()), size=size)


async def empty(target: Path, size: int, kind: str = "qcow2") -> None:
    """An empty disk of `size` bytes."""
    await _create(target, "-f", kind, size=size)


async def swap(target: Path, size: int) -> None:
    """A raw disk of `size` bytes that a guest can swap to at once."""
    part = target.with_name(target.name + ".part")
    await run("qemu-img", "create", "-q", "-f", "raw", str(part), str(size))
    mkswap = shutil.which("mkswap", path="/sbin:/usr/sbin:/bin:/usr/bin")
    if mkswap:
        part.chmod(0o600)
        await run(mkswap, str(part))
    part.rename(target)


async def _create(target: Path, *how: str, size: int) -> None:
    part = target.with_name(target.name + ".part")
    await run("qemu-img", "create", "-q", *how, str(part), str(size))
    part.chmod(0o600)
    part.rename(target)


async def run(*command: str) -> None:
    """Run a tool to its end. Transient, with what it said, if it fails."""
    async with _LIGHT:
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise Transient("hypervisor", f"{command[0]} is not installed") from error
        try:
            _, err = await process.communicate()
        except asyncio.CancelledError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            # Nothing may be written once the caller goes on, perhaps to remove it all.
            await asyncio.shield(process.wait())
            raise
    if process.returncode:
        text = err.decode(errors="replace").strip()
        raise Transient("no_space" if "No space left" in text else "hypervisor", f"{command[0]}: {text}")
