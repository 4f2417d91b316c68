"""Structured logs that never block the event loop.

Every record carries the request and operation ids of the task that wrote it. Records go through a bounded
queue to a writer thread; when the queue is full the newest are counted and dropped, never waited for.
Secrets are never passed to a logger. Before :func:`setup` (tests, tools) loggers behave as Python's do.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kilonova.logwriter import LogWriter

request_id: ContextVar[str | None] = ContextVar("request_id", default=None)
operation_id: ContextVar[str | None] = ContextVar("operation_id", default=None)
project_id: ContextVar[str | None] = ContextVar("project_id", default=None)
instance: ContextVar[str | None] = ContextVar("instance", default=None)

# Whatever a task sets here is on each of its lines, in this order.
CONTEXT: tuple[ContextVar[str | None], ...] = (request_id, operation_id, project_id, instance)

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_QUIET = ("uvicorn.access", "aiohttp.access", "asyncio", "alembic")
_FOREIGN = ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi", "aiohttp", "aiohttp.access")
_current: LogWriter | None = None
_before: list[tuple[list[logging.Handler], int, str | None]] = []  # what close() puts back


def get_logger(name: str) -> logging.Logger:
    """Return the logger of a module. Pass facts as ``extra={"kn": {...}}``, not in the message."""
    return logging.getLogger(name)


@contextmanager
def bound(**ids: str | None) -> Iterator[None]:
    """Set any of request_id, operation_id, project_id, instance for the lines written inside."""
    tokens = [(variable, variable.set(ids.pop(variable.name))) for variable in CONTEXT if variable.name in ids]
    if ids:
        raise TypeError(f"not part of a log line's context: {', '.join(ids)}")
    try:
        yield
    finally:
        for variable, token in tokens:
            variable.reset(token)


def setup(
    level: str = "info",
    json: bool = False,
    target: Path | str | None = None,
    *,
    queue: int = 10_000,
    sighup: bool = False,
) -> None:
    """Send all logging of the process, libraries' too, through the writer thread. Replaces a former setup.

    ``level``: debug, info, warning or error. ``target``: a file (appended to, mode 0640, reopened when it
    is rotated away) or None for stderr. ``sighup``: also reopen at SIGHUP; main thread only. ``queue``:
    lines that may wait. Raises OSError if the file cannot be opened.
    """
    from kilonova.logwriter import LogWriter

    global _current
    writer = LogWriter(None if target is None else Path(target), json, queue)
    close()
    _current = writer
    root = logging.getLogger()
    _before.append((root.handlers[:], root.level, logging._srcfile))
    root.handlers[:] = [writer]
    root.setLevel(_LEVELS[level])
    for name in _FOREIGN:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate, logger.disabled = True, False
        logger.setLevel(logging.NOTSET)
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(True)
    # What no line shows is not gathered; finding the caller's source line costs as much as the rest.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    # (As the logging HOWTO says under "Optimization".)
    logging._srcfile = None
    if sighup:
        import signal

        signal.signal(signal.SIGHUP, lambda number, frame: reopen())
    writer.start()


def reopen() -> None:
    """Close and open the log file again, as after it was renamed. Returns at once; safe in a signal handler."""
    if _current is not None:
        _current.reopen()


def dropped() -> int:
    """Return how many lines were lost since setup: the queue was full or the file could not be written."""
    return 0 if _current is None else _current.dropped


def flush(timeout: float = 2.0) -> bool:
    """Wait (blocking: not on the loop) until what was logged so far is written; False if time ran out."""
    return _current is None or _current.drain(timeout)


def close() -> None:
    """Write what waits, for two seconds at most, stop the thread, put back what was before setup."""
    global _current
    writer, _current = _current, None
    if writer is not None:
        root = logging.getLogger()
        root.handlers[:], level, logging._srcfile = _before.pop()
        root.setLevel(level)
        logging.captureWarnings(False)
        writer.close()


def facts(**values: object) -> Mapping[str, Mapping[str, object]]:
    """Return the ``extra=`` of a log call: ``log.info("booted", extra=facts(host=host, ms=12))``."""
    return {"kn": values}
