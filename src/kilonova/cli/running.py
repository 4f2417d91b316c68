"""Which process runs the cloud in a DIR: one that holds DIR/lock, and nothing else counts.

What always holds: the kernel drops the lock the moment its holder dies, so a stale pid file never misleads;
a signal goes to the very process that was checked (a pidfd), never to a later one with the same number.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from kilonova.cli import place
from kilonova.cli.errors import CliError


@contextlib.contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Take DIR/lock for the life of this process and write DIR/kilonova.pid.

    Raises CliError when another process has it. The descriptor is not inherited by children.
    """
    descriptor = os.open(folder / place.LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CliError(f"a cloud already runs in {folder}; `kilonova status` shows it") from None
        (folder / place.PID).write_text(f"{os.getpid()}\n")
        try:
            yield
        finally:
            (folder / place.PID).unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def is_held(folder: Path) -> bool:
    """Whether some process holds DIR/lock."""
    try:
        descriptor = os.open(folder / place.LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def holder(folder: Path) -> int | None:
    """Return the pid of the process that runs the cloud in `folder`, or None."""
    if not is_held(folder):
        return None
    try:
        return int((folder / place.PID).read_text())
    except (OSError, ValueError):
        return None


def stop(folder: Path, patience: float) -> bool:
    """Ask the cloud in `folder` to end (SIGTERM), and after `patience` seconds end it (SIGKILL).

    Returns False if nothing ran there. Raises CliError if it can't be found or signalled.
    """
    if not is_held(folder):
        return False
    pid = holder(folder)
    if pid is None:
        # It is starting: the lock is taken just before the pid is written. Or it just ended.
        deadline = time.monotonic() + 2
        while pid is None and is_held(folder) and time.monotonic() < deadline:
            time.sleep(0.02)
            pid = holder(folder)
    if pid is None:
        if not is_held(folder):
            return True
        raise CliError(f"{folder / place.LOCK} is held by a process that {folder / place.PID} doesn't name")
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        if not _has_open(pid, folder / place.LOCK):
            raise CliError(f"process {pid} doesn't hold {folder / place.LOCK}: not touched")
        signal.pidfd_send_signal(process, signal.SIGTERM)
        if not _ended(process, patience):
            signal.pidfd_send_signal(process, signal.SIGKILL)
            if not _ended(process, 10):
                raise CliError(f"process {pid} didn't end; it may hang in the kernel")
    except ProcessLookupError:
        return True
    except PermissionError:
        raise CliError(f"process {pid} belongs to another user") from None
    finally:
        os.close(process)
    return True


def _ended(process: int, seconds: float) -> bool:
    return bool(select.select([process], [], [], seconds)[0])


def _has_open(pid: int, path: Path) -> bool:
    """Whether process `pid` has `path` open. Raises PermissionError for another user's process."""
    wanted = path.stat()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            seen = link.stat()
            if (seen.st_dev, seen.st_ino) == (wanted.st_dev, wanted.st_ino):
                return True
    return False
