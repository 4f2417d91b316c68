"""Somebody watches the event loop, always.

A thread asks the loop to stamp a time and measures how long the answer takes. Not every wait is the loop's
own fault: on a busy machine the scheduler may have taken the processor away. So each sample knows three
figures: ``wall`` (what a request would have felt), ``cpu`` (processor time the loop's thread used meanwhile:
a callback that computes) and ``queued`` (time the thread was runnable but not running: the machine's doing).
What is left of the wall, ``held``, is the loop's: computing, a blocking call, or another thread holding the
interpreter lock. While a stall lasts the frame that holds the loop is looked up and named.

An idle loop is asked seldom: the thread asks when it finds Python code running on the loop or the loop
thread's processor clock moved, else five times a second. It must not know what runs on the loop.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections import deque
from types import FrameType, TracebackType

import msgspec

from kilonova import metrics
from kilonova.log import facts, get_logger

log = get_logger(__name__)

_PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_IDLE_CPU = 0.000_2  # seconds of the loop thread's time between looks that count as idle
_IDLE_ASK = 0.2  # an idle loop is asked this often
_CO_COROUTINE = 0x80  # inspect.CO_COROUTINE, without importing inspect
_KEPT = 16_384  # samples for the percentiles


class Sample(msgspec.Struct, frozen=True):
    """One answer of the loop; seconds. ``where`` is ``file:line function`` if it came late."""

    wall: float
    cpu: float
    queued: float
    where: str = ""

    @property
    def held(self) -> float:
        """The part of the wait that the machine's other processes do not explain."""
        return max(0.0, self.wall - self.queued)


class LagReport(msgspec.Struct, frozen=True):
    """Percentiles of the kept samples (about the last ten minutes when busy) and the worst ever; seconds."""

    samples: int
    wall_p50: float
    wall_p99: float
    wall_p999: float
    wall_max: float
    cpu_p50: float
    cpu_p99: float
    cpu_p999: float
    cpu_max: float
    held_max: float
    stalls: tuple[Sample, ...]


class LoopStalled(AssertionError):
    """The loop was held longer than allowed; the text names the frames."""


class Watchdog:
    """Watches the running loop of the thread that calls :meth:`start`. Also an async context manager.

    ``threshold``: seconds after which a wait is a stall, named and counted. ``registry``: where the figures
    ``kilonova_loop_lag_seconds``, ``kilonova_loop_cpu_lag_seconds`` and ``kilonova_loop_stalls_total`` live.
    """

    def __init__(self, threshold: float = 0.020, registry: metrics.Registry = metrics.REGISTRY) -> None:
        self._threshold = threshold
        self._wall = registry.histogram("kilonova_loop_lag_seconds", "Time the event loop took to answer.")
        self._cpu = registry.histogram(
            "kilonova_loop_cpu_lag_seconds", "CPU time the event loop's thread used before it answered."
        )
        self._stalled = registry.counter(
            "kilonova_loop_stalls_total", "Waits over the threshold that were the process's own doing."
        )
        self._samples: deque[Sample] = deque(maxlen=_KEPT)
        self._stalls: deque[Sample] = deque(maxlen=64)
        self._worst = (0.0, 0.0, 0.0)
        self._answer: tuple[float, float] | None = None
        self._stopping = False
        self._thread: threading.Thread | None = None

    async def __aenter__(self) -> Watchdog:
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Begin; call on the loop's own thread while it runs."""
        self._loop = asyncio.get_running_loop()
        self._ident = threading.get_ident()
        self._clock = time.pthread_getcpuclockid(self._ident)
        self._rest = _resting_frame()
        self._schedstat = _open_schedstat(threading.get_native_id())
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; waits for it, about one threshold."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._stopping = True
            thread.join(1.0)
            if self._schedstat >= 0:
                os.close(self._schedstat)

    def lag_report(self) -> LagReport:
        """Return the figures so far."""
        samples = list(self._samples)
        walls, cpus = sorted(s.wall for s in samples), sorted(s.cpu for s in samples)
        wall, cpu, held = self._worst
        return LagReport(
            samples=len(samples),
            wall_p50=_rank(walls, 0.5),
            wall_p99=_rank(walls, 0.99),
            wall_p999=_rank(walls, 0.999),
            wall_max=wall,
            cpu_p50=_rank(cpus, 0.5),
            cpu_p99=_rank(cpus, 0.99),
            cpu_p999=_rank(cpus, 0.999),
            cpu_max=cpu,
            held_max=held,
            stalls=tuple(self._stalls),
        )

    def assert_quiet(self, cpu: float = 0.020, held: float = 0.250) -> None:
        """Raise LoopStalled if one wait had more than ``cpu`` seconds of computing or was ``held`` longer.

        For tests: computing is exact on any machine; the wide margin for the rest forgives a noisy one.
        """
        bad = [s for s in self._stalls if s.cpu > cpu or s.held > held]
        if bad:
            told = "; ".join(f"{s.where or '?'} ({_ms(s)})" for s in bad)
            raise LoopStalled(f"the event loop was held {len(bad)} times: {told}")

    def forget(self) -> None:
        """Begin the figures anew, as after a warm-up."""
        self._samples.clear()
        self._stalls.clear()
        self._worst = (0.0, 0.0, 0.0)

    def _beat(self) -> None:
        self._answer = (time.monotonic(), time.thread_time())

    def _answered(self) -> tuple[float, float] | None:
        return self._answer

    def _run(self) -> None:
        asked = seen = busy = 0.0
        while not self._stopping:
            now = time.monotonic()
            # sleep() costs half of waiting for an event with a timeout.
            time.sleep(self._threshold if now - busy < 1.0 else self._threshold * 2.5)
            try:
                cpu, now = time.clock_gettime(self._clock), time.monotonic()
                frame = self._running()
                if frame is not None or cpu - seen > _IDLE_CPU:
                    busy = now
                elif now - asked < _IDLE_ASK:
                    seen = cpu
                    continue
                asked = now
                self._sample(now, cpu, "" if frame is None else self._place(frame))
                seen = time.clock_gettime(self._clock)
            except (RuntimeError, OSError):  # the loop is closed, or its thread gone
                return

    def _sample(self, asked: float, cpu: float, where: str) -> None:
        queued = self._queued()
        self._answer = None
        self._loop.call_soon_threadsafe(self._beat)
        while not self._stopping:
            time.sleep(self._threshold)
            answer = self._answered()
            if answer is not None:
                break
            frame = self._running()
            if frame is not None and self._answered() is None:
                where = self._place(frame)
        else:
            return
        answered, cpu_then = answer
        wall = max(0.0, answered - asked)
        queued = min(wall, max(0.0, self._queued() - queued)) if wall > self._threshold else 0.0
        self._keep(Sample(wall, max(0.0, cpu_then - cpu), queued, where if wall > self._threshold else ""))

    def _keep(self, sample: Sample) -> None:
        self._samples.append(sample)
        self._wall.observe(sample.wall)
        self._cpu.observe(sample.cpu)
        wall, cpu, held = self._worst
        self._worst = (max(wall, sample.wall), max(cpu, sample.cpu), max(held, sample.held))
        if sample.held > self._threshold:
            self._stalls.append(sample)
            self._stalled.inc()
            extra = facts(
                wall_ms=round(sample.wall * 1e3, 1),
                cpu_ms=round(sample.cpu * 1e3, 1),
                queued_ms=round(sample.queued * 1e3, 1),
                where=sample.where,
            )
            log.warning("event loop held", extra=extra)

    @staticmethod
    def _place(frame: FrameType) -> str:
        """Name the innermost frame, after ours that led to it if it is not ours."""
        inner, ours = _name(frame), ""
        step: FrameType | None = frame
        while step is not None:
            if step.f_code.co_filename.startswith(_PACKAGE):
                ours = _name(step)
                break
            step = step.f_back
        return inner if ours in ("", inner) else f"{ours} > {inner}"

    def _running(self) -> FrameType | None:
        """Return the innermost frame of the loop's thread, or None while it waits for events."""
        frame = sys._current_frames().get(self._ident)
        if frame is None or frame is self._rest:
            return None
        code = frame.f_code
        return None if code.co_name == "select" and code.co_filename.endswith("selectors.py") else frame

    def _queued(self) -> float:
        """Return the seconds the loop's thread has waited for a processor since it began; 0 if not told."""
        if self._schedstat < 0:
            return 0.0
        try:
            return int(os.pread(self._schedstat, 64, 0).split()[1]) / 1e9
        except (OSError, IndexError, ValueError):
            return 0.0


def _resting_frame() -> FrameType | None:
    """Return the frame that is innermost while a loop written in C waits: who called the outermost coroutine.

    For asyncio's own loop it is some frame of asyncio's that never is innermost: harmless.
    """
    frame: FrameType | None = sys._getframe(1)
    rest = None
    while frame is not None:
        if frame.f_code.co_flags & _CO_COROUTINE:
            rest = frame.f_back
        frame = frame.f_back
    return rest


def _open_schedstat(thread: int) -> int:
    try:
        return os.open(f"/proc/self/task/{thread}/schedstat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1


def _name(frame: FrameType) -> str:
    path = frame.f_code.co_filename
    short = path[len(_PACKAGE) :] if path.startswith(_PACKAGE) else os.sep.join(path.split(os.sep)[-2:])
    return f"{short}:{frame.f_lineno} {frame.f_code.co_qualname}"


def _rank(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


def _ms(sample: Sample) -> str:
    return f"wall {sample.wall * 1e3:.0f} ms, cpu {sample.cpu * 1e3:.0f} ms, queued {sample.queued * 1e3:.0f} ms"
