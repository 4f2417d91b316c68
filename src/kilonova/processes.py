"""Children: short-lived programs such as qemu-img, started, bounded and always reaped.

Started by posix_spawn (no copy of our memory, no code between fork and exec), in a session of their own so
that a Ctrl-C at our terminal is not theirs and the whole group can be killed. At most a few at once of each
weight. Time, output, memory and processor are limited; a child never outlives the call, nor its timeout.
"""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from kilonova.log import facts, get_logger
from kilonova.pools import Overloaded

log = get_logger(__name__)

_PIECE = 1 << 16
_DEATH = 5.0  # seconds a killed child may take to end
_MAX_STDIN = 16 << 20
# Sets the limits and becomes the program: nothing of ours runs in between, and dash and bash agree on these.
_LIMITER = 'ulimit -c 0 && {limits}{cd}exec "$@"'
_DEFAULTED = (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGHUP, signal.SIGINT, signal.SIGTERM)


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Limits of a child: ``memory`` address space in bytes, ``cpu`` seconds, ``files`` open at once."""

    memory: int | None = None
    cpu: int | None = None
    files: int | None = None


# What Nova gives qemu-img when it looks at an image from outside: 1 GiB of address space, 30 s of processor.
INSPECT = Limits(memory=1 << 30, cpu=30)


class Finished(msgspec.Struct, frozen=True, kw_only=True):
    """How a child ended. ``code`` is negative for a signal; times in seconds; output may be ``cut``."""

    argv: tuple[str, ...]
    code: int
    out: bytes
    err: bytes
    cut: bool
    seconds: float
    cpu: float

    def checked(self) -> Finished:
        """Return self if the child succeeded, else raise ProcessFailed."""
        if self.code != 0:
            raise ProcessFailed(self)
        return self


class ProcessFailed(Exception):
    """A child ended with another code than 0; ``finished`` has its output."""

    def __init__(self, finished: Finished) -> None:
        how = f"signal {-finished.code}" if finished.code < 0 else f"code {finished.code}"
        tail = finished.err.decode("utf-8", "replace").strip()[-500:]
        super().__init__(f"{finished.argv[0]} ended with {how}: {tail}")
        self.finished = finished


class ProcessTimeout(Exception):
    """A child took longer than allowed and was killed with its group."""

    def __init__(self, argv: Sequence[str], seconds: float) -> None:
        super().__init__(f"{argv[0]} did not end in {seconds:g} s and was killed")


class Processes:
    """Runs children, at most ``heavy`` and ``light`` at once and ``waiting`` in line for each weight."""

    def __init__(self, heavy: int = 2, light: int = 8, waiting: int = 256) -> None:
        self._slots = {True: asyncio.Semaphore(heavy), False: asyncio.Semaphore(light)}
        self._taken = {True: 0, False: 0}
        self._limit = {True: heavy + waiting, False: light + waiting}

    async def run(
        self,
        *argv: str,
        heavy: bool = False,
        timeout: float = 60.0,
        stdin: bytes = b"",
        env: Mapping[str, str] | None = None,
        cwd: Path | str | None = None,
        limits: Limits | None = None,
        max_output: int = 1 << 20,
    ) -> Finished:
        """Run a program to its end and return what it wrote.

        ``heavy`` for work that fills a disk or a processor (qemu-img convert). ``timeout`` counts from the
        start of the child, not from the wait for a slot. ``stdin``: at most 16 MiB. ``env``: added to ours,
        with LC_ALL=C. Beyond ``max_output`` bytes of each stream the rest is read and thrown away.
        Raises Overloaded, FileNotFoundError, PermissionError, ProcessTimeout; a cancelled caller's child is
        killed and reaped first. Other codes than 0 are not errors here: see :meth:`Finished.checked`.
        """
        if len(stdin) > _MAX_STDIN:
            raise ValueError("stdin is limited to 16 MiB; use a file")
        if self._taken[heavy] >= self._limit[heavy]:
            raise Overloaded("heavy processes" if heavy else "light processes")
        self._taken[heavy] += 1
        try:
            async with self._slots[heavy]:
                environment = {**os.environ, "LC_ALL": "C", **(env or {})}
                child = _Child(_wrapped(argv, limits, cwd), argv, environment, stdin, max_output)
                return await child.finish(timeout)
        finally:
            self._taken[heavy] -= 1


def _wrapped(argv: Sequence[str], limits: Limits | None, cwd: Path | str | None) -> list[str]:
    if limits is None and cwd is None:
        return list(argv)
    if shutil.which(argv[0]) is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), argv[0])
    words = []
    if limits is not None:
        words += [f"ulimit -v {limits.memory // 1024} && "] if limits.memory is not None else []
        words += [f"ulimit -t {limits.cpu} && "] if limits.cpu is not None else []
        words += [f"ulimit -n {limits.files} && "] if limits.files is not None else []
    go = 'cd -- "$0" && ' if cwd is not None else ""
    return ["/bin/sh", "-c", _LIMITER.format(limits="".join(words), cd=go), str(cwd or "sh"), *argv]


def _stdin(data: bytes) -> int:
    """Return a descriptor to read ``data`` from. A memory file: unlike a pipe it takes any amount at once."""
    if not data:
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    fd = os.memfd_create("stdin", os.MFD_CLOEXEC)
    os.write(fd, data)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _watch(pid: int) -> int:
    """Return a descriptor that becomes readable when the child ends. If there is none, there is no child."""
    try:
        return os.pidfd_open(pid)
    except OSError:
        os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise


class _Child:
    """One running child: its pid, a descriptor that tells its end, and the pipes being read."""

    def __init__(
        self, command: list[str], argv: Sequence[str], env: Mapping[str, str], stdin: bytes, max_output: int
    ) -> None:
        self._argv = tuple(argv)
        self._loop = asyncio.get_running_loop()
        self._max = max_output
        self._cut = False
        self._ended = asyncio.Event()
        self._began = time.monotonic()
        self._out: dict[int, bytearray] = {}
        ours: list[int] = []
        theirs = [_stdin(stdin)]
        try:
            for _ in range(2):
                read, write = os.pipe2(os.O_CLOEXEC)
                ours.append(read)
                theirs.append(write)
                os.set_blocking(read, False)
            self.pid = os.posix_spawnp(
                command[0],
                command,
                env,
                file_actions=[(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(theirs)],
                setsid=True,
                setsigmask=(),
                setsigdef=_DEFAULTED,
            )
            self._watch = _watch(self.pid)
        except BaseException:
            for fd in ours:
                os.close(fd)
            raise
        finally:
            for fd in theirs:
                os.close(fd)
        self._order = ours
        self._open = set(ours)
        for fd in ours:
            self._out[fd] = bytearray()
            self._loop.add_reader(fd, self._read, fd)
        self._loop.add_reader(self._watch, self._end)

    async def finish(self, timeout: float) -> Finished:
        """Wait for the end, at most ``timeout`` seconds, then kill. The child is always reaped on return."""
        try:
            async with asyncio.timeout(timeout):
                await self._ended.wait()
        except TimeoutError:
            raise ProcessTimeout(self._argv, timeout) from None
        finally:
            if not self._ended.is_set():
                await self._put_down()
        status, cpu = self._reap()
        out, err = (bytes(self._out[fd]) for fd in self._order)
        return Finished(
            argv=self._argv,
            code=os.waitstatus_to_exitcode(status),
            out=out,
            err=err,
            cut=self._cut,
            seconds=time.monotonic() - self._began,
            cpu=cpu,
        )

    def _read(self, fd: int) -> None:
        try:
            piece = os.read(fd, _PIECE)
        except BlockingIOError:
            return
        if not piece:
            self._close(fd)
            return
        room = self._max - len(self._out[fd])
        self._out[fd] += piece[: max(0, room)]
        self._cut = self._cut or len(piece) > room

    def _end(self) -> None:
        self._loop.remove_reader(self._watch)
        self._ended.set()

    async def _put_down(self) -> None:
        log.warning("child killed", extra=facts(argv=self._argv[:2], pid=self.pid))
        # Not reaped yet, so the number still is the group's.
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            os.kill(self.pid, signal.SIGKILL)
        try:
            async with asyncio.timeout(_DEATH):
                await self._ended.wait()
        except TimeoutError:
            log.error("child does not die", extra=facts(argv=self._argv[:2], pid=self.pid))
        finally:
            if self._ended.is_set():
                self._reap()
            else:  # in the kernel's hands, as on a dead file server: reaped when it comes out
                self._loop.remove_reader(self._watch)
                self._loop.add_reader(self._watch, self._reap)

    def _reap(self) -> tuple[int, float]:
        self._loop.remove_reader(self._watch)
        os.close(self._watch)
        _, status, usage = os.wait4(self.pid, 0)  # it has ended: this does not wait
        # What it wrote is in the pipes; a grandchild that still holds them is not waited for.
        for fd in tuple(self._open):
            while fd in self._open:
                before = len(self._out[fd])
                self._read(fd)
                if len(self._out[fd]) == before:
                    break
            self._close(fd)
        return status, usage.ru_utime + usage.ru_stime

    def _close(self, fd: int) -> None:
        if fd in self._open:
            self._open.discard(fd)
            self._loop.remove_reader(fd)
            os.close(fd)
