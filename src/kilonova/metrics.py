"""Numbers about ourselves, cheap enough for every request.

Counters, gauges and histograms that cost well under a microsecond to change, written out in Prometheus'
text format only when somebody asks. Changing one is a single load-add-store on a slot, which the
interpreter lock does not interrupt, so threads may share them. A label combination beyond
``MAX_CHILDREN`` of a metric is counted under ``other``: a caller can not fill our memory with label values.
"""

from __future__ import annotations

import math
import os
import re
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Generic, TypeVar

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MAX_CHILDREN = 1000
# Seconds, from half a millisecond to ten.
BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*\Z")
_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*\Z")


class Count:
    """A number that only grows."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: float = 0

    def inc(self, amount: float = 1) -> None:
        """Add ``amount``, which must not be negative."""
        self.value += amount


class Level:
    """A number that goes up and down; ``follow`` asks a function at the time of writing instead."""

    __slots__ = ("_ask", "value")

    def __init__(self) -> None:
        self.value: float = 0
        self._ask: Callable[[], float] | None = None

    def set(self, value: float) -> None:
        self.value = value

    def inc(self, amount: float = 1) -> None:
        self.value += amount

    def dec(self, amount: float = 1) -> None:
        self.value -= amount

    def follow(self, ask: Callable[[], float]) -> None:
        """Show what ``ask()`` returns; if it fails, nothing (NaN)."""
        self._ask = ask

    def read(self) -> float:
        if self._ask is None:
            return self.value
        try:
            return float(self._ask())
        except Exception:
            return math.nan


class Spread:
    """How values spread over buckets (upper bounds, inclusive), with their sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total: float = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


Child = TypeVar("Child", Count, Level, Spread)


class Metric(Generic[Child]):
    """A named family; :meth:`labels` returns the child to change. Hold on to a child that is used often."""

    def __init__(self, name: str, kind: str, text: str, labels: Sequence[str], make: Callable[[], Child]) -> None:
        if not _NAME.match(name):
            raise ValueError(f"{name!r} is not a metric name")
        for label in labels:
            if not _LABEL.match(label) or label.startswith("__") or label == "le":
                raise ValueError(f"{label!r} is not a label name")
        self.name, self.kind, self.text, self.label_names = name, kind, text, tuple(labels)
        self._make: Callable[[], Child] = make
        self._children: dict[tuple[str, ...], Child] = {}
        if not labels:
            self._children[()] = make()

    def labels(self, *values: str) -> Child:
        """Return the child for these label values (texts, in the order of the names)."""
        child = self._children.get(values)
        return child if child is not None else self._new(values)

    def children(self) -> list[tuple[tuple[str, ...], Child]]:
        return sorted(self._children.items(), key=lambda pair: pair[0])

    def remove(self, *values: str) -> None:
        """Forget a child, as when the thing it is about is gone."""
        self._children.pop(values, None)

    def _new(self, values: tuple[str, ...]) -> Child:
        if len(values) != len(self.label_names):
            raise ValueError(f"{self.name} has labels {self.label_names}, got {values}")
        texts = tuple(map(str, values))
        if len(self._children) >= MAX_CHILDREN and texts not in self._children:
            texts = ("other",) * len(values)
        return self._children.setdefault(texts, self._make())


class Counter(Metric[Count]):
    """Unlabelled: ``c.inc()``; labelled: ``c.labels("GET", "200").inc()``. The name ends in ``_total``."""

    def inc(self, amount: float = 1) -> None:
        self._children[()].value += amount


class Gauge(Metric[Level]):
    """Unlabelled: ``g.set(3)``, ``inc``, ``dec``, ``follow(fn)``; labelled: through ``labels``."""

    def set(self, value: float) -> None:
        self._children[()].value = value

    def inc(self, amount: float = 1) -> None:
        self._children[()].value += amount

    def dec(self, amount: float = 1) -> None:
        self._children[()].value -= amount

    def follow(self, ask: Callable[[], float]) -> None:
        self._children[()].follow(ask)


class Histogram(Metric[Spread]):
    """Unlabelled: ``h.observe(seconds)``; labelled: through ``labels``."""

    def observe(self, value: float) -> None:
        self._children[()].observe(value)


AnyMetric = Counter | Gauge | Histogram


class Registry:
    """A set of metrics. Asking for a name again returns the same metric; for another kind of it: ValueError."""

    def __init__(self) -> None:
        self._metrics: dict[str, AnyMetric] = {}

    def counter(self, name: str, text: str, labels: Sequence[str] = ()) -> Counter:
        if not name.endswith("_total"):
            raise ValueError(f"{name}: a counter's name ends in _total")
        return self._add(Counter(name, "counter", text, labels, Count))

    def gauge(self, name: str, text: str, labels: Sequence[str] = ()) -> Gauge:
        return self._add(Gauge(name, "gauge", text, labels, Level))

    def histogram(
        self, name: str, text: str, labels: Sequence[str] = (), buckets: Iterable[float] = BUCKETS
    ) -> Histogram:
        bounds = tuple(sorted(set(map(float, buckets)) - {math.inf}))
        return self._add(Histogram(name, "histogram", text, labels, lambda: Spread(bounds)))

    def render(self) -> bytes:
        """Return everything in Prometheus' text format 0.0.4, with the process's own figures."""
        lines: list[str] = []
        for name in sorted(self._metrics):
            metric = self._metrics[name]
            lines.append(f"# HELP {name} {_escape(metric.text)}")
            lines.append(f"# TYPE {name} {metric.kind}")
            for values, child in metric.children():
                lines += _samples(metric, values, child)
        lines += _process()
        return ("\n".join(lines) + "\n").encode()

    _T = TypeVar("_T", Counter, Gauge, Histogram)

    def _add(self, metric: _T) -> _T:
        known = self._metrics.setdefault(metric.name, metric)
        if type(known) is not type(metric) or known.label_names != metric.label_names:
            raise ValueError(f"metric {metric.name} exists with another kind or other labels")
        return known


def _samples(metric: AnyMetric, values: tuple[str, ...], child: Count | Level | Spread) -> Iterator[str]:
    labels = [f'{n}="{_escape(v, quotes=True)}"' for n, v in zip(metric.label_names, values, strict=True)]
    plain = "{" + ",".join(labels) + "}" if labels else ""
    if isinstance(child, Spread):
        running = 0
        for bound, count in zip((*child.bounds, math.inf), list(child.counts), strict=True):
            running += count
            buckets = ",".join([*labels, f'le="{_number(bound)}"'])
            yield f"{metric.name}_bucket{{{buckets}}} {running}"
        yield f"{metric.name}_sum{plain} {_number(child.total)}"
        yield f"{metric.name}_count{plain} {running}"
    else:
        yield f"{metric.name}{plain} {_number(child.read() if isinstance(child, Level) else child.value)}"


def _escape(text: str, quotes: bool = False) -> str:
    text = text.replace("\\", r"\\").replace("\n", r"\n")
    text = text.replace('"', r"\"") if quotes else text
    return text.encode("utf-8", "replace").decode()


def _number(value: float) -> str:
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return "NaN" if math.isnan(value) else repr(value)


_STARTED = time.time()


def _process() -> Iterator[str]:
    """Yield the figures that every Prometheus client gives about its process."""
    figures = [
        ("process_cpu_seconds_total", "counter", "CPU time, user and system.", time.process_time()),
        ("process_start_time_seconds", "gauge", "Start, Unix time.", _STARTED),
    ]
    try:
        with open("/proc/self/statm") as file:
            pages = int(file.read().split()[1])
        resident = float(pages * os.sysconf("SC_PAGESIZE"))
        figures.append(("process_resident_memory_bytes", "gauge", "Resident memory.", resident))
        figures.append(("process_open_fds", "gauge", "Open files.", float(len(os.listdir("/proc/self/fd")))))
    except OSError:
        pass
    for name, kind, text, value in figures:
        yield f"# HELP {name} {text}"
        yield f"# TYPE {name} {kind}"
        yield f"{name} {_number(value)}"


REGISTRY = Registry()
counter = REGISTRY.counter
gauge = REGISTRY.gauge
histogram = REGISTRY.histogram
render = REGISTRY.render
