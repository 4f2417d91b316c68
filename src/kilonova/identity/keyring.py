"""A folder of numbered key files, rotated the way operators of Keystone know it.

The highest number is the primary: it makes. `0` is staged: known everywhere before it makes anything.
All others only read what was made earlier. Keys are 32 random bytes, base64, in files of mode 0600
outside every database; on several machines the folder is copied.
"""

from __future__ import annotations

import base64
import fcntl
import os
import secrets
import time
from pathlib import Path
from typing import NamedTuple

from kilonova.log import get_logger

log = get_logger(__name__)
_LOOK_S = 1.0


class Key(NamedTuple):
    """A key and its number; `text` is its 32 bytes in URL-safe base64."""

    number: int
    text: bytes

    def __repr__(self) -> str:
        return f"Key({self.number})"

    @property
    def raw(self) -> bytes:
        return base64.urlsafe_b64decode(self.text)


class KeyringError(Exception):
    """The keys cannot be read or made."""


class Keyring:
    """The keys of one folder, primary first. Makes the folder and two keys when there is none."""

    def __init__(self, folder: Path, keep: int = 3) -> None:
        """`keep`: how many keys `rotate` leaves, the staged one included (at least 2). Raises KeyringError."""
        self.folder, self.keep = folder, max(2, keep)
        self.keys: tuple[Key, ...] = ()
        self._looked_at = 0.0
        self._mtime = -1
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not self._read():
                self._make(1)
                self._make(0)
                self._read()
        except OSError as error:
            raise KeyringError(f"{folder}: {error.strerror}") from error
        if not self.keys:
            raise KeyringError(f"{folder}: holds no key")

    def __repr__(self) -> str:
        return f"Keyring({str(self.folder)!r}, {[key.number for key in self.keys]})"

    @property
    def primary(self) -> Key:
        return self.keys[0]

    def reload(self) -> bool:
        """Look for keys that another process made, at most once a second; True if there are other keys now."""
        now = time.monotonic()
        if now - self._looked_at < _LOOK_S:
            return False
        self._looked_at = now
        before = self.keys
        try:
            if self.folder.stat().st_mtime_ns == self._mtime:
                return False
            self._read()
        except (OSError, KeyringError) as error:  # a key that is just being copied: next time
            log.warning("keys are not read again: %s", error)
            return False
        return self.keys != before

    def rotate(self, older_than_s: float = 0.0) -> bool:
        """The staged key becomes the primary, a new one is staged, the oldest go.

        Nothing happens (False) while the primary is younger than `older_than_s`: of several processes with one
        folder one rotates it. Blocks for some milliseconds. Raises KeyringError.
        """
        try:
            handle = os.open(self.folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            with os.fdopen(handle, "a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                self._read()
                if time.time() - self._path(self.primary.number).stat().st_mtime < older_than_s:
                    return False
                self._rotate()
                return True
        except OSError as error:
            raise KeyringError(f"{self.folder}: {error.strerror}") from error

    def _rotate(self) -> None:
        top = self.primary.number + 1
        if self._path(0).exists():
            self._path(0).rename(self._path(top))
            os.utime(self._path(top))  # its age is that as a primary
        else:
            self._make(top)
        self._make(0)
        self._read()
        for key in sorted(self.keys)[1 : max(1, len(self.keys) - self.keep + 1)]:
            self._path(key.number).unlink(missing_ok=True)
        self._read()

    def _path(self, number: int) -> Path:
        return self.folder / str(number)

    def _make(self, number: int) -> None:
        """Write a new key unless there is one; whole or not at all, also for who reads meanwhile."""
        path = self._path(number)
        part = self.folder / f".{number}.{os.getpid()}.{secrets.token_hex(4)}"
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(base64.urlsafe_b64encode(secrets.token_bytes(32)))
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(part, path)
            except FileExistsError:
                return  # another process was first
        finally:
            part.unlink(missing_ok=True)

    def _read(self) -> bool:
        mtime = self.folder.stat().st_mtime_ns
        found = []
        for path in self.folder.iterdir():
            if path.name.isdigit():
                text = path.read_bytes().strip()
                if len(text) != 44:
                    raise KeyringError(f"{path}: is not a key")
                found.append(Key(int(path.name), text))
        self.keys, self._mtime = tuple(sorted(found, reverse=True)), mtime
        return bool(found)
