"""The compute process's own file: the highest fence and the results of each server, per host.

An append-only log of checked records beside one table in memory. A fence is in the file before the command
it came with has any effect: on the disk (fdatasync, many commands in one) when `durable`, else only handed to the
kernel, which survives the end of the process but not of the machine (the sim world survives no more than that either).
Results are not waited for: a lost one costs a repeated "ensure". A torn tail is cut off. A lost file is no error:
fences start anew and the hypervisor is what it is. One process at a time holds the file.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from kilonova.compute.ledgerfile import Record, framed, records, snapshot
from kilonova.model.command import Fence, StepResult

_result = msgspec.json.Decoder(StepResult)

NO_FENCE = Fence(-1, 0, 0)


class LedgerInUse(Exception):
    """Another process holds this file."""


class Entry:
    """What is known of one server on one host."""

    __slots__ = ("begun", "durable", "fence", "gone_at", "owed", "results")

    def __init__(self) -> None:
        self.fence = NO_FENCE
        self.durable = False
        """The file holds this fence."""
        self.begun: set[str] | None = None
        """Keys begun and not finished."""
        self.results: dict[str, bytes] = {}
        """Key -> StepResult as JSON."""
        self.owed: set[str] | None = None
        """Keys whose results were promised by report and are not acknowledged."""
        self.gone_at: float | None = None
        """Monotonic time at which this server was known to be destroyed here."""


Subject = tuple[str, str]
"""(host, server)."""


class Ledger:
    """Fences and results. Calls that only write return at once; `raise_fence` returns when it is safe."""

    COMPACT_BYTES = 4 << 20
    GONE_SECONDS = 3600.0
    """How long a destroyed server's fence outlives it: longer than any command can be on its way."""

    def __init__(self, path: Path, *, durable: bool = True) -> None:
        self._path, self._durable = path, durable
        self.entries: dict[Subject, Entry] = {}
        self.incarnation = ""
        self.interrupted: list[tuple[str, str, str]] = []
        """(host, server, key) of commands that an earlier life began and did not end; filled by `open`."""
        self._fd = -1
        self._lock = -1
        self._size = 0
        self._limit = self.COMPACT_BYTES
        self._buffer: list[bytes] = []
        self._waiters: list[asyncio.Future[None]] = []
        self._writing: asyncio.Task[None] | None = None
        self._pool: ThreadPoolExecutor | None = None

    # -- life

    def open(self) -> None:
        """Read the file (blocks; before the loop is busy). Raises LedgerInUse."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(f"{self._path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            self._lock = -1
            raise LedgerInUse(f"another compute process uses {self._path}") from None
        last = 0
        if self._path.exists():
            for record in records(self._path):
                last = max(last, self._apply(record))
        self.incarnation = f"{max(last + 1, time.time_ns() // 1000):016d}"
        self.interrupted = [
            (host, server, key) for (host, server), entry in self.entries.items() for key in entry.begun or ()
        ]
        self._rewrite(list(self.entries.items()))

    def _apply(self, record: Record) -> int:
        """Take one record into memory; return the incarnation if it is one."""
        what, host, server, key, detail = record
        if what == "i":
            return int(key)
        entry = self.entry(host, server)
        if what == "f":
            self._advance(entry, msgspec.convert(detail, Fence))
            if key:
                entry.begun = (entry.begun or set()) | {key}
        elif what == "r":
            entry.results[key] = detail
            (entry.begun or set()).discard(key)
        elif what == "o":
            entry.owed = (entry.owed or set()) | {key}
        elif what == "x":
            self._drop(entry, key)
        elif what == "a":
            (entry.owed or set()).discard(key)
            (entry.begun or set()).discard(key)
        elif what == "g":
            entry.gone_at = time.monotonic()
        entry.durable = True
        return 0

    async def close(self) -> None:
        """Write what is left and let the file go."""
        if self._writing is not None:
            await asyncio.wait([self._writing])
        if self._fd >= 0:
            self._write(self._take(), sync=self._durable)
            os.close(self._fd)
        if self._lock >= 0:
            os.close(self._lock)
        self._fd = self._lock = -1
        if self._pool is not None:
            self._pool.shutdown(wait=False)

    # -- facts

    def entry(self, host: str, server: str) -> Entry:
        """Return the entry, made if new."""
        found = self.entries.get((host, server))
        if found is None:
            found = self.entries[(host, server)] = Entry()
        return found

    def decoded(self, payload: bytes) -> StepResult:
        """Return a stored result as its struct."""
        return _result.decode(payload)

    # -- changes

    def _advance(self, entry: Entry, fence: Fence) -> None:
        """Raise the fence in memory. Results of earlier operations go: the lane has passed them."""
        if fence <= entry.fence:
            return
        if fence.number > entry.fence.number and (entry.results or entry.begun or entry.owed):
            entry.results.clear()
            entry.begun = entry.owed = None
        entry.fence = fence
        entry.durable = False
        entry.gone_at = None

    def lift(self, host: str, server: str, fence: Fence) -> Entry:
        """Refuse lower fences from now on, in this process."""
        entry = self.entry(host, server)
        self._advance(entry, fence)
        return entry

    async def begin(self, host: str, server: str, key: str) -> None:
        """Return when the server's fence is safe in the file; `key` is noted as begun. Raises OSError."""
        entry = self.entry(host, server)
        fence = entry.fence
        entry.begun = (entry.begun or set()) | {key}
        self._append(("f", host, server, key, (fence.number, fence.epoch, fence.undo)))
        if self._writing is None and not self._durable:
            self._write(self._take(), sync=False)
        elif not entry.durable:
            await self._flushed()
        if entry.fence == fence:
            entry.durable = True

    def finish(self, host: str, server: str, key: str, payload: bytes | None, *, owed: bool) -> None:
        """Note the end of a command: with `payload` a known key is answered from it; `owed`: it must be reported."""
        entry = self.entry(host, server)
        if entry.begun is not None:
            entry.begun.discard(key)
        if payload is not None:
            entry.results[key] = payload
            self._append(("r", host, server, key, payload))
            if owed:
                entry.owed = (entry.owed or set()) | {key}
                self._append(("o", host, server, key, None))
        else:
            self._append(("a", host, server, key, None))

    def gone(self, host: str, server: str) -> None:
        """The server was destroyed here: after a while nothing about it needs to be known."""
        self.entry(host, server).gone_at = time.monotonic()
        self._append(("g", host, server, "", None))

    def acknowledge(self, host: str, server: str, key: str) -> None:
        """The result is recorded elsewhere: never report it again."""
        entry = self.entries.get((host, server))
        if entry is not None and (key in (entry.owed or ()) or key in (entry.begun or ())):
            (entry.owed or set()).discard(key)
            (entry.begun or set()).discard(key)
            self._append(("a", host, server, key, None))

    def forget(self, host: str, server: str, keys: tuple[str, ...] = ()) -> None:
        """Drop results (all if no keys are named); the fence stays."""
        entry = self.entries.get((host, server))
        if entry is None:
            return
        for key in keys or tuple(entry.results):
            self._drop(entry, key)
            self._append(("x", host, server, key, None))

    @staticmethod
    def _drop(entry: Entry, key: str) -> None:
        entry.results.pop(key, None)
        (entry.owed or set()).discard(key)
        (entry.begun or set()).discard(key)

    # -- the file

    def _append(self, record: Record) -> None:
        self._buffer.append(framed(record))
        if len(self._buffer) == 1:
            asyncio.get_running_loop().call_soon(self._flush)

    def _take(self) -> bytes:
        data = b"".join(self._buffer)
        self._buffer.clear()
        return data

    def _flush(self) -> None:
        """Write what this turn of the loop gathered, without waiting for the disk."""
        if self._fd < 0 or not self._buffer or self._writing is not None:
            return
        try:
            self._write(self._take(), sync=False)
        except OSError:
            pass  # only results and forgettings: each costs a repeated "ensure" at most
        if self._size > self._limit:
            self._start_writing()

    async def _flushed(self) -> None:
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        self._waiters.append(waiter)
        self._start_writing()
        await waiter

    def _start_writing(self) -> None:
        if self._writing is None:
            self._writing = asyncio.get_running_loop().create_task(self._sync())

    async def _sync(self) -> None:
        """Group commit: one fdatasync for all that came while the last one ran."""
        loop = asyncio.get_running_loop()
        if self._pool is None:
            self._pool = ThreadPoolExecutor(1, "ledger")
        while self._waiters:
            waiters, self._waiters = self._waiters, []
            failure: OSError | None = None
            try:
                await loop.run_in_executor(self._pool, self._write, self._take(), self._durable)
            except OSError as error:
                failure = error
            for waiter in waiters:
                if waiter.done():
                    continue
                if failure is None:
                    waiter.set_result(None)
                else:
                    waiter.set_exception(OSError(failure.errno, failure.strerror))
            if self._size > self._limit:
                await self._compact(loop)
        if self._size > self._limit:
            await self._compact(loop)
        self._writing = None
        if self._waiters:
            self._start_writing()
        elif self._buffer:
            loop.call_soon(self._flush)

    async def _compact(self, loop: asyncio.AbstractEventLoop) -> None:
        """Rewrite the file in the writer's thread; what is appended meanwhile waits in the buffer.

        The thread may see entries newer than the copy of their list: the records that follow say the same again.
        """
        old = time.monotonic() - self.GONE_SECONDS
        for subject in [s for s, entry in self.entries.items() if entry.gone_at and entry.gone_at < old]:
            del self.entries[subject]
        await loop.run_in_executor(self._pool, self._rewrite, list(self.entries.items()))

    def _write(self, data: bytes, sync: bool) -> None:
        if not data:
            return
        view = memoryview(data)
        done = 0
        try:
            while done < len(view):
                done += os.write(self._fd, view[done:])
            if sync:
                os.fdatasync(self._fd)
        except OSError:
            os.ftruncate(self._fd, self._size)
            raise
        self._size += done

    def _rewrite(self, entries: list[tuple[Subject, Entry]]) -> None:
        """Start a fresh file of what still counts. Blocks; if it fails the old file is kept."""
        data = snapshot(self.incarnation, entries)
        fresh = self._path.with_suffix(".new")
        fd = -1
        try:
            fd = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            if self._durable:
                os.fsync(fd)
            os.replace(fresh, self._path)
        except OSError:
            if fd >= 0:
                os.close(fd)
            if self._fd < 0:
                raise
            self._limit = self._size * 2
            return
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._size = fd, len(data)
        self._limit = max(self.COMPACT_BYTES, 4 * len(data))
