"""`./kilonova console` at a terminal."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import time
from pathlib import Path
from types import TracebackType

from cloud_process import KILONOVA


class Console:
    """A terminal of its own with the console of one server in it."""

    def __init__(self, folder: Path, server: str) -> None:
        self.said = b""
        self._pid, self._terminal = pty.fork()
        if self._pid == 0:
            os.execv(KILONOVA, [KILONOVA, "console", "--dir", str(folder), server])

    def __enter__(self) -> Console:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
        os.close(self._terminal)

    def type(self, keys: bytes) -> None:
        os.write(self._terminal, keys)

    def expect(self, text: bytes, seconds: float = 20.0) -> None:
        """Read until `text` was said, and forget what came before its end."""
        deadline = time.monotonic() + seconds
        while text not in self.said:
            left = deadline - time.monotonic()
            assert left > 0, f"not said: {text!r}; {self.said[-1000:]!r}"
            if select.select([self._terminal], [], [], left)[0]:
                try:
                    self.said += os.read(self._terminal, 4096)
                except OSError:
                    raise AssertionError(f"it ended: {self.said[-1000:]!r}") from None
        self.said = self.said.partition(text)[2]

    def leave(self) -> int:
        """Type Ctrl-] and return the exit code."""
        self.type(b"\x1d")
        with contextlib.suppress(OSError):
            while select.select([self._terminal], [], [], 10)[0] and os.read(self._terminal, 4096):
                pass
        return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])
