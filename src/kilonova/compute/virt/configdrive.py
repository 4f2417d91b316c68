"""Config drives as ISO 9660 images with Joliet and Rock Ridge, labelled `config-2`.

Slow (milliseconds of CPU): run it in a worker thread, never on the loop.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

LABEL = "config-2"


def write_iso(target: Path, files: Mapping[str, bytes]) -> None:
    """`files`: path inside the drive -> content. The target appears whole or not at all."""
    import pycdlib

    iso = pycdlib.PyCdlib()
    iso.new(interchange_level=4, joliet=3, rock_ridge="1.09", vol_ident=LABEL)
    made: set[PurePosixPath] = {PurePosixPath(".")}
    for name in sorted(files):
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(f"not a path inside the drive: {name}")
        for folder in reversed(path.parents):
            if folder not in made:
                iso.add_directory(f"/{folder}", rr_name=folder.name, joliet_path=f"/{folder}")
                made.add(folder)
        content = files[name]
        iso.add_fp(io.BytesIO(content), len(content), f"/{path}", rr_name=path.name, joliet_path=f"/{path}")
    part = target.with_name(target.name + ".part")
    _write(iso, part)
    part.rename(target)


def _write(iso: Any, part: Path) -> None:
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        iso.write_fp(out)
        iso.close()
