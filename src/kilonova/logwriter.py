"""The thread behind :mod:`kilonova.log`, and how a line looks.

The caller only puts the record and its context into a queue (a few microseconds); formatting and writing
happen here, many lines in one write. Nothing that goes wrong here ever reaches the caller.
"""

from __future__ import annotations

import atexit
import json as jsonlib
import logging
import os
import queue
import threading
import time
from pathlib import Path
from traceback import format_exception
from typing import Any

from kilonova.log import CONTEXT

_GATHER = 0.01  # seconds between writes: one wake-up of this thread serves all lines of that time
_NAMES = tuple(variable.name for variable in CONTEXT)
_Item = tuple[logging.LogRecord, str, tuple[str | None, ...]]


class LogWriter(logging.Handler):
    """A handler with a bounded queue and one thread. ``path`` None is stderr."""

    def __init__(self, path: Path | None, json: bool, limit: int) -> None:
        super().__init__()
        self._path = path
        self._file = -1
        self._line = _json_line if json else _text_line
        self._limit = limit
        self._queue: queue.SimpleQueue[_Item | threading.Event | None] = queue.SimpleQueue()
        self._stale = False
        self._told = 0
        self.dropped = 0
        self._open()
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)

    def start(self) -> None:
        self._thread.start()
        atexit.register(self.close)

    def createLock(self) -> None:  # noqa: N802 - logging's name; the queue needs no lock
        self.lock = None

    def handle(self, record: logging.LogRecord) -> bool:
        """Queue a record. Never waits, never raises."""
        if self._queue.qsize() >= self._limit:
            self.dropped += 1
            return False
        try:
            message = record.getMessage()
        except Exception:  # a wrong format string is a bug, but not a reason to fail the request
            message = f"{record.msg!r} with arguments that do not fit"
        self._queue.put((record, message, tuple([variable.get() for variable in CONTEXT])))
        return True

    def reopen(self) -> None:
        self._stale = True

    def drain(self, timeout: float) -> bool:
        """Wait until everything queued before this call is written."""
        if not self._thread.is_alive():
            return False
        done = threading.Event()
        self._queue.put(done)
        return done.wait(timeout)

    def close(self) -> None:
        atexit.unregister(self.close)
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._queue.put(None)
            self._thread.join(2.0)
        super().close()

    def _run(self) -> None:
        going = True
        while going:
            batch = [self._queue.get()]
            while not self._queue.empty() and len(batch) < 1000:
                batch.append(self._queue.get())
            if None in batch:
                going = False
            self._write([item for item in batch if isinstance(item, tuple)])
            waiting = [item for item in batch if isinstance(item, threading.Event)]
            for event in waiting:
                event.set()
            if going and not waiting:
                time.sleep(_GATHER)
        if self._path is not None:
            os.close(self._file)

    def _write(self, items: list[_Item]) -> None:
        lines = []
        for item in items:
            try:
                lines.append(self._line(*item))
            except Exception:
                self.dropped += 1
        if self.dropped > self._told:
            lost, self._told = self.dropped - self._told, self.dropped
            record = logging.makeLogRecord({"name": __name__, "levelname": "WARNING", "kn": {"lines": lost}})
            lines.append(self._line(record, "log lines dropped", (None,) * len(CONTEXT)))
        if not lines:
            return
        data = "".join(lines).encode("utf-8", "backslashreplace")
        try:
            self._keep_open()
            while data:
                data = data[os.write(self._file, data) :]
        except OSError:  # a full disk, a closed terminal: counted, told when it works again
            self.dropped += len(lines)

    def _open(self) -> None:
        if self._path is None:
            self._file = 2
        else:
            self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)

    def _keep_open(self) -> None:
        """Open the file again if asked to, or if its name now stands for another file or none."""
        if self._path is None:
            return
        if not self._stale:
            try:
                there, here = os.stat(self._path), os.fstat(self._file)
                if (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino):
                    return
            except FileNotFoundError:
                pass
        self._stale = False
        old = self._file
        self._open()
        os.close(old)


def _stamp(created: float) -> str:
    """Return ISO 8601 UTC with microseconds."""
    micros = round(created * 1e6)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(micros // 1_000_000)) + f".{micros % 1_000_000:06d}Z"


def _pairs(record: logging.LogRecord, context: tuple[str | None, ...]) -> dict[str, Any]:
    pairs: dict[str, Any] = {n: v for n, v in zip(_NAMES, context, strict=True) if v is not None}
    facts = getattr(record, "kn", None)
    if isinstance(facts, dict):
        pairs.update(facts)
    return pairs


def _trace(record: logging.LogRecord) -> str:
    if record.exc_info and record.exc_info[0] is not None:
        return "".join(format_exception(*record.exc_info)).rstrip()
    return record.exc_text or ""


def _text_line(record: logging.LogRecord, message: str, context: tuple[str | None, ...]) -> str:
    """``time LEVEL logger message key=value ...``; a traceback follows, indented."""
    words = [_stamp(record.created), f"{record.levelname:<7}", record.name, _one_line(message)]
    words += [f"{key}={_quoted(value)}" for key, value in _pairs(record, context).items()]
    trace = _trace(record)
    tail = "".join(f"\n    {_clean(line)}" for line in trace.splitlines()) if trace else ""
    return " ".join(words) + tail + "\n"


def _json_line(record: logging.LogRecord, message: str, context: tuple[str | None, ...]) -> str:
    """One JSON object a line: time, level, logger, message, ids, facts, exception."""
    fields: dict[str, Any] = {
        "time": _stamp(record.created),
        "level": record.levelname.lower(),
        "logger": record.name,
        "message": message,
    }
    for key, value in _pairs(record, context).items():
        fields.setdefault(key, value)
    trace = _trace(record)
    if trace:
        fields["exception"] = trace
    return jsonlib.dumps(fields, default=str, skipkeys=True) + "\n"


def _one_line(text: str) -> str:
    # Text from outside must not forge lines or drive a terminal.
    return _clean(text.replace("\r", "\\r").replace("\n", "\\n"))


def _clean(text: str) -> str:
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _quoted(value: object) -> str:
    text = str(value)
    plain = text and text.isprintable() and not any(c in ' "=' for c in text)
    return text if plain else jsonlib.dumps(text)
