"""Long steps seen by a person: a bar on a terminal, one quiet line elsewhere, and the time of each phase.

What always holds: everything goes to standard error, so that a command's output stays clean; a failed phase
says so before its error does. Standard library only: the launcher uses it before there is anything else.
"""

from __future__ import annotations

import os
import sys
import time
from types import TracebackType

BAR = 24


class Phase:
    """A context manager around one long step, e.g. `with Phase("Fetching packages") as phase`."""

    def __init__(self, title: str) -> None:
        self.title = title
        self.live = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self.started = time.monotonic()

    def __enter__(self) -> Phase:
        self.started = time.monotonic()
        if self.live:
            self._draw(f"{self.title} ...")
        return self

    def step(self, done: int, total: int, note: str = "") -> None:
        """Show that `done` of `total` (any unit) is reached; draws nothing unless on a terminal."""
        if not self.live or total <= 0:
            return
        filled = min(BAR, BAR * done // total)
        self._draw(f"{self.title} [{'#' * filled}{'.' * (BAR - filled)}] {done}/{total} {note}")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        end = "" if kind is None else ": stopped" if kind is KeyboardInterrupt else ": failed"
        line = f"{self.title}{end} ({time.monotonic() - self.started:.1f} s)"
        if self.live:
            self._draw(line)
            print(file=sys.stderr, flush=True)
        else:
            print(line, file=sys.stderr, flush=True)

    def _draw(self, line: str) -> None:
        try:
            width = os.get_terminal_size(sys.stderr.fileno()).columns or 80
        except OSError:
            width = 80
        print("\r\033[K" + line[: width - 1], end="", file=sys.stderr, flush=True)
