"""Threads by kind of work, each kind with a bound: what blocks never takes the loop or a neighbour's thread.

The default executor is never used. A pool has few threads and a queue of limited length; beyond it callers
get :class:`Overloaded` at once instead of a wait without end. Threads start when first needed and are
daemons: a call into a dead hypervisor cannot be cancelled, and must not keep the process from ending.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import Context, copy_context
from typing import Any, ParamSpec, TypeVar

from kilonova import metrics

P = ParamSpec("P")
T = TypeVar("T")

# Pool -> threads. ``files`` also hashes; ``libvirt`` commands, ``libvirt-stats`` figures of the hypervisor.
SIZES: dict[str, int] = {"files": 2, "password": 1, "libvirt": 4, "libvirt-stats": 2}

_WAITING = metrics.gauge("kilonova_pool_waiting", "Calls that wait or run in a pool.", ("pool",))
_REFUSED = metrics.counter("kilonova_pool_refused_total", "Calls refused because a queue was full.", ("pool",))


class Overloaded(Exception):
    """The queue of ``pool`` is full; nothing was started. A 503 that may be tried again."""

    def __init__(self, pool: str) -> None:
        super().__init__(f"too much waits for {pool}; try again in a moment")
        self.pool = pool


class _Job:
    __slots__ = ("args", "context", "fn", "future", "kwargs", "loop")

    def __init__(self, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], context: Context) -> None:
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Any] = self.loop.create_future()
        self.fn, self.args, self.kwargs, self.context = fn, args, kwargs, context


class Pool:
    """``threads`` threads and at most ``waiting`` calls in line for them."""

    def __init__(self, name: str, threads: int, waiting: int = 256) -> None:
        self.name = name
        self._threads = threads
        self._limit = threads + waiting
        self._started: list[threading.Thread] = []
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._taken = 0
        self._counting = threading.Lock()
        self._closed = False
        self._level = _WAITING.labels(name)

    @property
    def taken(self) -> int:
        """Calls that wait or run, those whose caller gave up included."""
        return self._taken

    async def run(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Return ``fn(*args, **kwargs)``, called in a thread with this task's context.

        A cancelled caller is let go at once; the call itself ends when it ends and keeps its place until
        then. Raises Overloaded, or whatever the call raises.
        """
        if self._closed:
            raise RuntimeError(f"pool {self.name} is closed")
        if self._taken >= self._limit:
            _REFUSED.labels(self.name).inc()
            raise Overloaded(self.name)
        job = _Job(fn, args, kwargs, copy_context())
        self._count(1)
        if len(self._started) < min(self._taken, self._threads):
            thread = threading.Thread(target=self._work, name=f"{self.name}-{len(self._started)}", daemon=True)
            thread.start()
            self._started.append(thread)
        self._jobs.put(job)
        result: T = await job.future
        return result

    def close(self, timeout: float = 2.0) -> bool:
        """Take no more calls; wait (blocking) for the running ones. False if some did not end in time."""
        self._closed = True
        for _ in self._started:
            self._jobs.put(None)
        for thread in self._started:
            thread.join(timeout)
        return not any(thread.is_alive() for thread in self._started)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            value: Any = None
            error: BaseException | None = None
            if not job.future.cancelled():
                try:
                    value = job.context.run(job.fn, *job.args, **job.kwargs)
                except BaseException as raised:  # handed to the caller, whatever it is
                    error = raised
            self._count(-1)  # here and not on the loop, which may end before it would come to it
            with suppress(RuntimeError):  # the loop is closed: nobody waits
                job.loop.call_soon_threadsafe(self._done, job.future, value, error)
            del job, value, error

    def _count(self, change: int) -> None:
        with self._counting:
            self._taken += change
            self._level.inc(change)

    @staticmethod
    def _done(future: asyncio.Future[Any], value: Any, error: BaseException | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(value)
        elif isinstance(error, StopIteration):
            future.set_exception(RuntimeError("StopIteration in a pool's call"))
        else:
            future.set_exception(error)


class Pools:
    """The pools of one process. ``sizes`` overrides :data:`SIZES`; a pool not named there does not exist."""

    def __init__(self, sizes: Mapping[str, int] | None = None, waiting: int = 256) -> None:
        self._pools = {name: Pool(name, n, waiting) for name, n in {**SIZES, **(sizes or {})}.items()}

    def __getitem__(self, name: str) -> Pool:
        return self._pools[name]

    async def run(self, pool: str, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Return ``fn(*args, **kwargs)`` from a thread of ``pool``: see :meth:`Pool.run`."""
        return await self._pools[pool].run(fn, *args, **kwargs)

    def close(self, timeout: float = 2.0) -> bool:
        """Close all pools; True if every thread ended in ``timeout`` seconds each."""
        ended = [pool.close(timeout) for pool in self._pools.values()]
        return all(ended)
