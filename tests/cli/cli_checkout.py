"""A checkout of its own for each launcher test, and an empty home."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import kilonova

ROOT = Path(kilonova.__file__).parents[2]


def copy_checkout(target: Path) -> Path:
    """Copy what the launcher needs of this checkout to `target`."""
    target.mkdir(parents=True)
    for name in ("kilonova", "requirements.lock", "pyproject.toml"):
        shutil.copy2(ROOT / name, target / name)
    shutil.copytree(ROOT / "src", target / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    return target


def clean_environment(home: Path) -> dict[str, str]:
    """A stranger's environment: an empty home, but this machine's pip settings."""
    home.mkdir(exist_ok=True)
    kept = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "LC_", "LANG"))}
    kept |= {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
    return {**kept, "HOME": str(home), "PATH": os.environ["PATH"]}


class Checkout:
    """A copy of the repository whose ./kilonova the tests call."""

    def __init__(self, root: Path, home: Path) -> None:
        self.root = root
        self.environment = clean_environment(home)

    def start(self, *words: str, python: str | None = None) -> subprocess.Popen[str]:
        command = [python, str(self.root / "kilonova")] if python else [str(self.root / "kilonova")]
        return subprocess.Popen(
            [*command, *words],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def call(self, *words: str, python: str | None = None) -> subprocess.CompletedProcess[str]:
        with self.start(*words, python=python) as child:
            try:
                out, err = child.communicate(timeout=100)
            except BaseException:
                child.kill()
                raise
        return subprocess.CompletedProcess(words, child.returncode, out, err)
