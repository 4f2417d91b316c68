"""The environment of the real services, made from requirements.lock: kilonova's own holds none of their packages."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

from kilonova.cli import environment

ROOT = Path(__file__).parents[2]
SECTION = "neighbours"
SOURCE_ONLY = "simplegeneric"


def python() -> Path:
    """The Python that has Keystone, Glance and a WSGI server; made by the first call (half a minute)."""
    return _made(".venv-neighbours", (SECTION,)) / "bin" / "python"


def client() -> Path:
    """The Python that has the official client, as `./kilonova openstack` makes it."""
    folder = ROOT / ".venv-client"
    if environment.read_stamp(folder) is None:
        environment.bring_up_to_date(ROOT, folder.name, ("client",))
    return folder / "bin" / "python"


def _made(name: str, sections: tuple[str, ...]) -> Path:
    folder = ROOT / name
    said = environment.digest(environment.read_lock(ROOT), sections)
    with open(ROOT / f"{name}.making", "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        stamp = environment.read_stamp(folder)
        if stamp is not None and stamp[2] == said:
            return folder
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([os.path.realpath(sys.executable), "-I", "-m", "venv", str(folder)], check=True)
        environment.build_from_source(ROOT, folder, SECTION, SOURCE_ONLY)
        environment.write_stamp(ROOT, folder, sections, said)
    return folder
