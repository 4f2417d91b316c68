"""The end of a guest's console log, as virtlogd keeps it: a file and, before it, `.0`, `.1`, ... Blocks."""

from __future__ import annotations

import os
from pathlib import Path


def tail(path: Path, size: int) -> bytes:
    """At most `size` last bytes; b"" if there is no log."""
    parts: list[bytes] = []
    for name in (path, path.with_name(path.name + ".0"), path.with_name(path.name + ".1")):
        if size <= 0:
            break
        try:
            with name.open("rb") as log_file:
                log_file.seek(max(0, log_file.seek(0, os.SEEK_END) - size))
                parts.append(log_file.read(size))
        except FileNotFoundError:
            break
        size -= len(parts[-1])
    return b"".join(reversed(parts))
