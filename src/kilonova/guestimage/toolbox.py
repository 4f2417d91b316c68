"""Programs of the distribution, run from where their packages were unpacked, never installed.

Each runs under the dynamic linker and libraries that were unpacked with it, so the versions fit each other
whatever the host has. Nothing here needs root. It must not know what the programs are used for.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

from kilonova.guestimage import elf
from kilonova.guestimage.errors import BuildError
from kilonova.guestimage.tree import EPOCH

_BIN = ("usr/bin", "usr/sbin", "bin", "sbin")
_LIB = ("usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu", "usr/lib", "lib", "usr/lib64", "lib64")
LINKER = "ld-linux-x86-64.so.2"


class Toolbox:
    """Finds and runs what is in an unpacked tree of packages."""

    def __init__(self, tree: Path, scratch: Path) -> None:
        self._tree = tree
        self._wrappers = scratch / "bin"
        self._wrappers.mkdir(parents=True, exist_ok=True)

    def program(self, name: str) -> Path:
        """Return the file of a program by its bare name."""
        return self._find(name, _BIN)

    def library(self, soname: str) -> Path:
        """Return the file of a shared object; a link to a versioned name is followed."""
        return self._find(soname, _LIB)

    def libraries(self, *programs: Path) -> dict[str, Path]:
        """Return all shared objects, by soname, that these programs load; the linker is among them."""
        found: dict[str, Path] = {}
        todo = list(programs)
        while todo:
            for soname in elf.needed(todo.pop().read_bytes()):
                if soname not in found:
                    found[soname] = self.library(soname)
                    todo.append(found[soname])
        found.setdefault(LINKER, self.library(LINKER))
        return found

    def offer(self, name: str) -> None:
        """Make a program callable by its name for programs that start it themselves."""
        wrapper = self._wrappers / name
        wrapper.write_text(f'#!/bin/sh\nexec {shlex.join(self._command(name))} "$@"\n')
        wrapper.chmod(0o755)

    def run(self, name: str, *args: str, stdin: bytes = b"", env: dict[str, str] | None = None) -> bytes:
        """Run a program to its end and return its output; a non-zero exit is a ``BuildError`` with its words."""
        return run([*self._command(name), *args], stdin=stdin, env=self._environment(env or {}))

    def _command(self, name: str) -> list[str]:
        paths = ":".join(str(self._tree / folder) for folder in _LIB)
        return [str(self.library(LINKER)), "--library-path", paths, str(self.program(name))]

    def _environment(self, extra: dict[str, str]) -> dict[str, str]:
        return {
            "PATH": f"{self._wrappers}:{os.environ.get('PATH', '/usr/bin:/bin')}",
            "LC_ALL": "C",
            "TZ": "UTC",
            "SOURCE_DATE_EPOCH": str(EPOCH),
            **extra,
        }

    def _find(self, name: str, folders: tuple[str, ...]) -> Path:
        for folder in folders:
            path = self._tree / folder / name
            if path.is_file():
                return path
        raise BuildError(f"{name} is not in the packages it is expected in")


def run(command: list[str], *, stdin: bytes = b"", env: dict[str, str] | None = None, cwd: Path | None = None) -> bytes:
    """Run a host program to its end and return its output; failure is a ``BuildError`` with its last words."""
    try:
        done = subprocess.run(command, input=stdin, env=env, cwd=cwd, capture_output=True, check=False)
    except FileNotFoundError as error:
        raise BuildError(f"{command[0]} is missing on this machine") from error
    if done.returncode != 0:
        words = done.stderr.decode(errors="replace").strip().splitlines()[-3:]
        name = next((Path(part).name for part in command if "ld-linux" not in part and "/" in part), command[0])
        raise BuildError(f"{name} failed with exit code {done.returncode}: {' | '.join(words)}")
    return done.stdout
