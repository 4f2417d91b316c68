"""The files of images: whole under their name or not there at all.

Always holds: a file without `.part` is complete and on the disk; whoever writes one holds its lock (flock) until
the database knows its name, so that a sweep by another process takes only what nobody owns. All work is done in
the file pool, in pieces of 1 MiB. Runs of zeros become holes. It knows no database and no HTTP.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import threading
from collections.abc import AsyncGenerator, Collection
from pathlib import Path
from uuid import uuid4

from msgspec import Struct

from kilonova.pools import Pool

PIECE = 1 << 20
RESERVE = 256 << 20
"""Bytes that uploads leave free for the databases on the same disk."""
_ZEROS = bytes(PIECE)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_QCOW2 = b"QFI\xfb"


class StoreFull(Exception):
    """The disk has no room for it."""


class StoredFile(Struct, frozen=True, kw_only=True):
    """A complete file: `name` in the store, sizes in bytes, digests in hexadecimal."""

    name: str
    size: int
    md5: str
    sha512: str
    virtual_size: int | None
    """Of the disk in a qcow2 file; None for others."""


class Incoming:
    """A file being written. `write` in order, then `finish` or `abandon`, then `close`."""

    def __init__(self, folder: Path, name: str, pool: Pool, reserve: int) -> None:
        self.name = name
        self.size = 0
        self._final, self._part = folder / name, folder / f"{name}.part"
        self._pool, self._reserve = pool, reserve
        self._fd = -1
        self._head = b""
        self._buffer = bytearray()
        self._checked = 0
        self._md5 = hashlib.md5(usedforsecurity=False)
        self._sha512 = hashlib.sha512()
        # A cancelled caller leaves its call running in a thread: what comes next must not meet it.
        self._turn = threading.Lock()
        self._dead = False

    async def open(self, expected: int | None) -> None:
        """Make the part file; `expected` bytes must fit. Raises StoreFull."""
        await self._pool.run(self._open, expected)

    async def write(self, piece: bytes) -> None:
        """Take the next bytes; raises StoreFull."""
        self.size += len(piece)
        self._buffer += piece
        while len(self._buffer) >= PIECE:
            block = bytes(memoryview(self._buffer)[:PIECE])
            del self._buffer[:PIECE]
            await self._pool.run(self._put, block)

    async def finish(self) -> StoredFile:
        """Put the file under its name, durably. It stays locked until `close`."""
        return await self._pool.run(self._finish)

    async def abandon(self) -> None:
        """Leave nothing."""
        await self._pool.run(self._abandon)

    async def close(self) -> None:
        """Let go of the lock."""
        await self._pool.run(self._close)

    def _open(self, expected: int | None) -> None:
        with self._turn:
            self._alive()
            self._begin(expected or 0)

    def _alive(self) -> None:
        if self._dead:
            raise RuntimeError(f"{self.name} was given up")

    def _begin(self, expected: int) -> None:
        self._room(expected)
        self._fd = os.open(self._part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _room(self, size: int) -> None:
        free = shutil.disk_usage(self._part.parent).free
        if free < size + self._reserve:
            raise StoreFull(f"{max(0, free - self._reserve)} bytes are left for images")

    def _put(self, block: bytes) -> None:
        with self._turn:
            self._alive()
            self._append(block)

    def _append(self, block: bytes) -> None:
        self._md5.update(block)
        self._sha512.update(block)
        if len(self._head) < 32:
            self._head += block[:32]
        try:
            if len(block) == PIECE and block == _ZEROS:
                os.lseek(self._fd, PIECE, os.SEEK_CUR)
                return
            self._checked += len(block)
            if self._checked > 64 * PIECE:
                self._checked = 0
                self._room(0)
            view = memoryview(block)
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as error:
            raise _translated(error) from error

    def _finish(self) -> StoredFile:
        with self._turn:
            self._alive()
            return self._complete()

    def _complete(self) -> StoredFile:
        if self._buffer:
            self._append(bytes(self._buffer))
            self._buffer.clear()
        try:
            os.ftruncate(self._fd, self.size)
            os.fsync(self._fd)
            os.rename(self._part, self._final)
            _sync_folder(self._final.parent)
        except OSError as error:
            raise _translated(error) from error
        return StoredFile(
            name=self.name, size=self.size, md5=self._md5.hexdigest(), sha512=self._sha512.hexdigest(),
            virtual_size=_virtual_size(self._head),
        )  # fmt: skip

    def _abandon(self) -> None:
        with self._turn:
            self._dead = True
            self._remove()

    def _remove(self) -> None:
        self._part.unlink(missing_ok=True)
        self._final.unlink(missing_ok=True)

    def _close(self) -> None:
        with self._turn:
            self._dead = True
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1


class ImageStore:
    """The files in `folder`. `reserve`: bytes of the disk that uploads leave free."""

    def __init__(self, folder: Path, pool: Pool, reserve: int = RESERVE) -> None:
        self.folder = folder
        self._pool, self._reserve = pool, reserve

    def __repr__(self) -> str:
        return f"ImageStore({str(self.folder)!r})"

    async def listing(self) -> list[str]:
        """The names of all files, unfinished ones included; makes the folder where it is missing."""
        return await self._pool.run(self._listing)

    async def sweep(self, names: Collection[str]) -> list[str]:
        """Remove those of `names` that nobody is writing; returns what was removed."""
        return await self._pool.run(self._sweep, names)

    def incoming(self, image_id: str, upload: str) -> Incoming:
        """A new file for an image; its name holds `upload`, so that two uploads never meet."""
        return Incoming(self.folder, f"{image_id}.{upload}", self._pool, self._reserve)

    async def adopt(self, path: Path, image_id: str) -> StoredFile:
        """Take in a local file as it is: by a hard link where possible, else by a copy. Raises StoreFull."""
        return await self._pool.run(self._adopt, path, f"{image_id}.{uuid4()}")

    async def remove(self, name: str) -> None:
        """ "Not there" is success; those who read it read on."""
        await self._pool.run(self._path(name).unlink, True)

    async def read(self, name: str, start: int = 0, length: int | None = None) -> AsyncGenerator[bytes, None]:
        """The bytes of a file in pieces of at most 1 MiB. Raises FileNotFoundError."""
        fd = await self._pool.run(os.open, self._path(name), os.O_RDONLY | os.O_CLOEXEC)
        try:
            at, left = start, length
            while left is None or left > 0:
                piece = await self._pool.run(os.pread, fd, PIECE if left is None else min(PIECE, left), at)
                if not piece:
                    return
                at += len(piece)
                left = None if left is None else left - len(piece)
                yield piece
        finally:
            os.close(fd)

    def _path(self, name: str) -> Path:
        assert name and "/" not in name
        return self.folder / name

    def _listing(self) -> list[str]:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return sorted(entry.name for entry in os.scandir(self.folder) if entry.is_file(follow_symlinks=False))

    def _sweep(self, names: Collection[str]) -> list[str]:
        removed = []
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                fd = os.open(self._path(name), os.O_RDONLY | os.O_CLOEXEC)
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    self._path(name).unlink()
                    removed.append(name)
                except BlockingIOError:
                    continue
                finally:
                    os.close(fd)
        return removed

    def _adopt(self, path: Path, name: str) -> StoredFile:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        md5, sha512, size, head = hashlib.md5(usedforsecurity=False), hashlib.sha512(), 0, b""
        final = self._path(name)
        with path.open("rb") as file:
            while block := file.read(PIECE):
                head = head or block[:32]
                size += len(block)
                md5.update(block)
                sha512.update(block)
        try:
            try:
                os.link(path, final)
            except OSError:
                shutil.copyfile(path, final)
                with final.open("rb") as copy:
                    os.fsync(copy.fileno())
            _sync_folder(self.folder)
        except OSError as error:
            final.unlink(missing_ok=True)
            raise _translated(error) from error
        return StoredFile(
            name=name, size=size, md5=md5.hexdigest(), sha512=sha512.hexdigest(), virtual_size=_virtual_size(head)
        )


def _translated(error: OSError) -> Exception:
    return StoreFull("the disk is full") if error.errno in _FULL else error


def _sync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _virtual_size(head: bytes) -> int | None:
    """From a qcow2 header (docs/interop/qcow2.txt of QEMU: bytes 24 to 31, big-endian)."""
    if len(head) < 32 or not head.startswith(_QCOW2):
        return None
    size = int.from_bytes(head[24:32], "big")
    return size if size < 1 << 63 else None
