"""One command at a time on each server of each host, in the order of authority.

A command whose fence is below the highest seen is refused; a higher one stops a running lower one at its
next safe point (its task is cancelled and awaited: a driver ends only where things are whole) and throws out the
waiting lower ones. The same key again joins the command that runs or waits under it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from kilonova.bus.api import RemoteError
from kilonova.compute.ledger import Ledger
from kilonova.log import get_logger
from kilonova.model.command import Command, Fence, Progress, StepResult

log = get_logger(__name__)


class Job:
    """One command on its way."""

    __slots__ = ("command", "ended", "fence", "host", "owed", "progress", "result", "stopped", "task", "waiters")

    def __init__(self, host: str, command: Command) -> None:
        self.host, self.command, self.fence = host, command, command.fence
        self.result: StepResult | None = None
        """Set once ended, unless it was stopped by a higher fence."""
        self.ended = False
        self.stopped = False
        self.owed = False
        """Somebody was told Accepted: the result goes out by report."""
        self.progress: Progress | None = None
        self.task: asyncio.Task[None] | None = None
        self.waiters: list[asyncio.Future[None]] = []

    def end(self) -> None:
        self.ended = True
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self, seconds: float) -> None:
        """Return when the job has ended or the time is over."""
        if self.ended:
            return
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        self.waiters.append(waiter)
        timer = loop.call_later(seconds, _expire, waiter)
        try:
            await waiter
        finally:
            timer.cancel()


def _expire(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


class _Lane:
    __slots__ = ("current", "waiting")

    def __init__(self, current: Job) -> None:
        self.current = current
        self.waiting: deque[Job] = deque()


Run = Callable[[Job], Awaitable[StepResult]]
"""Make the fence safe, then do the job's command."""


class Lanes:
    """All lanes of a process."""

    def __init__(self, ledger: Ledger, run: Run, ended: Callable[[Job], None]) -> None:
        self._ledger, self._run, self._ended = ledger, run, ended
        self._lanes: dict[tuple[str, str], _Lane] = {}
        self._watchers: list[set[tuple[str, str]]] = []
        self._closing = False

    def submit(self, host: str, command: Command) -> Job:
        """Start, queue or join a command whose result is not known yet. Raises RemoteError("fenced")."""
        subject = (host, command.server)
        for begun in self._watchers:
            begun.add(subject)
        highest = self._ledger.entry(host, command.server).fence
        if command.fence < highest:
            raise RemoteError("fenced", f"fence {tuple_of(command.fence)} is below {tuple_of(highest)}")
        self._ledger.lift(host, command.server, command.fence)
        lane = self._lanes.get(subject)
        if lane is None:
            job = Job(host, command)
            self._lanes[subject] = _Lane(job)
            self._start(job)
            return job
        for job in (lane.current, *lane.waiting):
            if job.command.key == command.key and not job.stopped:
                job.fence = max(job.fence, command.fence)
                self._outrank(lane, command.fence)
                return job
        self._outrank(lane, command.fence)
        job = Job(host, command)
        lane.waiting.append(job)
        return job

    def _outrank(self, lane: _Lane, fence: Fence) -> None:
        """Stop and throw out everything below `fence`."""
        for job in [job for job in lane.waiting if job.fence < fence]:
            lane.waiting.remove(job)
            job.stopped = True
            job.end()
        current = lane.current
        if current.fence < fence and not current.stopped:
            current.stopped = True
            if current.task is not None:
                current.task.cancel()

    def _start(self, job: Job) -> None:
        job.task = asyncio.get_running_loop().create_task(self._work(job))
        job.task.add_done_callback(lambda _: self._done(job))

    async def _work(self, job: Job) -> None:
        try:
            job.result = await self._run(job)
        except asyncio.CancelledError:
            pass  # stopped by a higher fence or by the end of the service: nothing is known of the outcome
        except Exception:
            log.exception("command %s of %s failed", job.command.method, job.command.server)

    def _done(self, job: Job) -> None:
        """Runs even if the task was cancelled before its first step."""
        try:
            self._ended(job)
        except Exception:
            log.exception("result of %s cannot be kept", job.command.key)
        job.end()
        self._next(job)

    def _next(self, job: Job) -> None:
        subject = (job.host, job.command.server)
        lane = self._lanes[subject]
        if lane.waiting and not self._closing:
            lane.current = lane.waiting.popleft()
            self._start(lane.current)
        else:
            del self._lanes[subject]

    def running(self, host: str, server: str) -> bool:
        """Tell whether a command works on this server now."""
        return (host, server) in self._lanes

    @contextmanager
    def watch(self) -> Iterator[set[tuple[str, str]]]:
        """Note the (host, server) of every command that begins meanwhile."""
        begun: set[tuple[str, str]] = set()
        self._watchers.append(begun)
        try:
            yield begun
        finally:
            self._watchers.remove(begun)

    def busy(self, host: str) -> list[str]:
        """Servers of a host that a command is at work on."""
        return [server for at, server in self._lanes if at == host]

    def progress(self) -> list[tuple[str, Progress]]:
        """Return (host, progress) of what runs and has said how far it is."""
        return [
            (lane.current.host, lane.current.progress)
            for lane in self._lanes.values()
            if lane.current.progress is not None
        ]

    async def stop(self) -> None:
        """Stop everything at its next safe point; guests keep running, what was begun is reported as interrupted."""
        self._closing = True
        tasks = [lane.current.task for lane in self._lanes.values() if lane.current.task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=10)


def tuple_of(fence: Fence) -> tuple[int, int, int]:
    """Return a fence as the plain tuple that people read in messages."""
    return (fence.number, fence.epoch, fence.undo)
