"""Images on a host: DIR/images/<image id>-<checksum>.<format>, fetched once, checked before use.

Always holds: a file under its final name is whole, has the size and hash the image service told, and passed
`imageformat.inspect`. A fetch writes to `*.part`, which a crash leaves and the next start removes. Fetches
of one image at one time share one download: it goes on as long as anybody waits for it.
It knows no image service: bytes come from an `ImageSource`.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import os
import re
import resource
import shutil
import uuid
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from msgspec import Struct

from kilonova.compute.imageformat import ImageFacts, inspect
from kilonova.compute.imagesource import ImageSource
from kilonova.compute.virt.driver import Refused, ReportProgress, Transient
from kilonova.compute.virt.threads import Threads
from kilonova.model.guest import ImageRef

RESERVE = 512 << 20
"""Bytes that stay free for everything else on the disk."""
_UNSAFE = re.compile(r"[^0-9a-zA-Z-]")
_HASHES = {"md5", "sha1", "sha256", "sha384", "sha512"}


class CachedImage(Struct, kw_only=True):
    """What a driver is given (its `Image`)."""

    path: Path
    format: str
    virtual_size: int


class ImageCache:
    """The cache of one host. `reserve`: bytes to leave free."""

    def __init__(self, directory: Path, source: ImageSource, reserve: int = RESERVE) -> None:
        self.root = directory / "images"
        self._source = source
        self._reserve = reserve
        self._threads = Threads("images", 2)
        self._running: dict[str, _Shared] = {}

    async def start(self) -> None:
        """Remove what a crash left."""
        await self._threads.run(self._sweep)

    async def stop(self) -> None:
        for shared in list(self._running.values()):
            shared.task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Refused, Transient):
                await shared.task
        self._threads.close()

    async def get(self, image: ImageRef, progress: ReportProgress) -> CachedImage:
        """The image on this host's disk.

        Refused `image_invalid`: it is not what it should be or can't be used. Transient `no_space`, or
        whatever the source raises.
        """
        name = _name(image)
        found = await self._threads.run(self._find, name)
        if found:
            return found
        shared = self._running.get(name)
        if shared is None:
            shared = self._running[name] = _Shared()
            shared.task = asyncio.get_running_loop().create_task(
                self._fetch(image, name, shared), name=f"image {image.id}"
            )
            shared.task.add_done_callback(lambda _task: self._forget(name, shared))
        shared.waiting += 1
        shared.listeners.append(progress)
        try:
            return await asyncio.shield(shared.task)
        finally:
            shared.waiting -= 1
            shared.listeners.remove(progress)
            if not shared.waiting and not shared.task.done():
                self._forget(name, shared)
                shared.task.cancel()
                with contextlib.suppress(asyncio.CancelledError, Refused, Transient):
                    await shared.task

    def _forget(self, name: str, shared: _Shared) -> None:
        if self._running.get(name) is shared:
            del self._running[name]

    async def _fetch(self, image: ImageRef, name: str, shared: _Shared) -> CachedImage:
        # Its own name: one that was given up may still be on its way out.
        part = self.root / f"{name}.{uuid.uuid4().hex}.part"
        await self._threads.run(self._room, image.size)
        try:
            await self._download(image, part, shared)
            facts = await self._threads.run(_inspect, part)
            if facts.format not in ("qcow2", "raw"):
                facts = await self._convert(part, facts)
            final = self.root / f"{name}.{facts.format}"
            await self._threads.run(_publish, part, final)
        except BaseException:
            await self._threads.run(part.unlink, missing_ok=True)
            raise
        return CachedImage(path=final, format=facts.format, virtual_size=facts.virtual_size)

    async def _download(self, image: ImageRef, part: Path, shared: _Shared) -> None:
        algorithm = (image.hash_algo or "").lower()
        digest = hashlib.new(algorithm) if image.checksum and algorithm in _HASHES else None
        file = await self._threads.run(_create, part)
        pieces = self._source.open(image.id)
        got, told = 0, -1
        try:
            async for piece in pieces:
                got += len(piece)
                if image.size and got > image.size:
                    raise Refused("image_invalid", f"the image is longer than its {image.size} bytes")
                await self._threads.run(_write, file, piece, digest)
                percent = got * 100 // image.size if image.size else 0
                if percent != told:
                    told = percent
                    for listener in shared.listeners:
                        listener(percent, "image")
        finally:
            await self._threads.run(file.close)
            if isinstance(pieces, AsyncGenerator):
                await pieces.aclose()
        if image.size and got != image.size:
            raise Transient("image_gone", f"the image ended after {got} of {image.size} bytes")
        if digest and digest.hexdigest() != (image.checksum or "").lower():
            raise Refused("image_invalid", f"the image's {algorithm} is not what the image service says")

    async def _convert(self, part: Path, facts: ImageFacts) -> ImageFacts:
        """vmdk to qcow2 by qemu-img, which may be attacked by its input: little memory, little time."""
        out = part.with_name(part.name.removesuffix(".part") + ".qcow2.part")
        command = ["qemu-img", "convert", "-q", "-f", facts.format, "-O", "qcow2", str(part), str(out)]
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        try:
            resource.prlimit(process.pid, resource.RLIMIT_AS, (1 << 30, 1 << 30))
            resource.prlimit(process.pid, resource.RLIMIT_CPU, (600, 600))
            _, err = await process.communicate()
            if process.returncode:
                text = err.decode(errors="replace").strip()[-300:]
                if "No space left" in text:
                    raise Transient("no_space", text)
                raise Refused("image_invalid", f"the image can't be converted: {text}")
            await self._threads.run(os.replace, out, part)
            return await self._threads.run(_inspect, part)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            await self._threads.run(out.unlink, missing_ok=True)
            raise

    # In pool threads.

    def _sweep(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        self.root.chmod(0o711)
        for left in self.root.glob("*.part"):
            left.unlink(missing_ok=True)

    def _find(self, name: str) -> CachedImage | None:
        for kind in ("qcow2", "raw"):
            path = self.root / f"{name}.{kind}"
            if path.exists():
                facts = _inspect(path)
                return CachedImage(path=path, format=kind, virtual_size=facts.virtual_size)
        return None

    def _room(self, size: int) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.root).free
        if free < size + self._reserve:
            raise Transient("no_space", f"the image needs {size} bytes, {free} are free on this host")


class _Shared:
    """One download and those who wait for it."""

    def __init__(self) -> None:
        self.task: asyncio.Task[CachedImage]
        self.waiting = 0
        self.listeners: list[ReportProgress] = []


def _name(image: ImageRef) -> str:
    """A file name: ids and checksums come from a neighbour and may hold anything."""
    checksum = image.checksum or f"size{image.size}"
    return f"{_UNSAFE.sub('_', image.id)[:64]}-{_UNSAFE.sub('_', checksum)[:128]}"


def _create(part: Path) -> Any:
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    return os.fdopen(descriptor, "wb", buffering=0)


def _write(file: Any, piece: bytes, digest: Any) -> None:
    try:
        view = memoryview(piece)
        while view:
            view = view[file.write(view) :]
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Transient("no_space", "the disk filled up while an image was fetched") from error
        raise
    if digest is not None:
        digest.update(piece)


def _inspect(path: Path) -> ImageFacts:
    with path.open("rb") as file:
        return inspect(file, path.stat().st_size)


def _publish(part: Path, final: Path) -> None:
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.rename(final)
