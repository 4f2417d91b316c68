"""The distribution packages the image is made of: which, in what version, downloaded and checked by apt.

Needs no root: packages are only downloaded and unpacked. The machine's own package lists are used when they
know everything asked for; otherwise lists of our own are fetched from the same sources into the cache. The
signatures are apt's business, and it refuses what is not signed. It must not know what is inside a package.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from kilonova.guestimage.errors import BuildError
from kilonova.guestimage.toolbox import run

_URI = re.compile(r"^'(?P<uri>[^']+)' (?P<file>\S+) (?P<size>\d+)(?: (?P<kind>\w+):(?P<hash>[0-9a-f]+))?$")


@dataclass(frozen=True, slots=True)
class Package:
    """One package as apt would download it: ``file`` is apt's name for it, ``size`` in bytes."""

    name: str
    version: str
    file: str
    size: int
    hash_kind: str
    hash: str


class Apt:
    """Asks apt; with ``private`` it keeps lists, caches and locks below ``cache`` only."""

    def __init__(self, cache: Path, *, private: bool) -> None:
        self._folder = cache / "apt"
        self._debs = cache / "packages"
        self._options: list[str] = ["-q", "-o", "APT::Sandbox::User=root", "-o", "Acquire::Retries=3"]
        if private:
            for part in ("lists/partial", "archives/partial"):
                (self._folder / part).mkdir(parents=True, exist_ok=True)
            self._options += [
                "-o", f"Dir::State::lists={self._folder}/lists",
                "-o", f"Dir::Cache={self._folder}",
                "-o", "Acquire::Languages=none",
                "-o", "Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled=false",
            ]  # fmt: skip

    def update(self) -> None:
        """Fetch the package lists."""
        self._run("apt-get", "update")

    def depends(self, names: Sequence[str], *, recurse: bool = True) -> list[str]:
        """Return the names of real packages that these depend on, themselves included, sorted."""
        flags = ["--no-" + kind for kind in ["recommends", "suggests", "conflicts", "breaks", "replaces", "enhances"]]
        out = self._run("apt-cache", "depends", *(["--recurse"] if recurse else []), *flags, *names)
        if recurse:
            found = {line for line in out.splitlines() if line and not line.startswith((" ", "<", "|"))}
        else:
            found = {line.split()[1] for line in out.splitlines() if line.startswith("  Depends: ")}
        return sorted(name for name in found if ":" not in name and not name.startswith("<"))

    def packages(self, names: Iterable[str]) -> list[Package]:
        """Return what apt would download for these names, sorted by name."""
        found = []
        for line in self._run("apt-get", "download", "--print-uris", *names).splitlines():
            if match := _URI.match(line.strip()):
                name, version, _arch = match["file"].removesuffix(".deb").split("_", 2)
                found.append(
                    Package(
                        name=name,
                        version=unquote(version),
                        file=match["file"],
                        size=int(match["size"]),
                        hash_kind=(match["kind"] or "").lower(),
                        hash=match["hash"] or "",
                    )
                )
        return sorted(found, key=lambda package: package.name)

    def download(self, package: Package) -> Path:
        """Return the package's file in the cache, downloaded unless it is there whole."""
        self._debs.mkdir(parents=True, exist_ok=True)
        path = self._debs / package.file
        if not _is_whole(path, package):
            path.unlink(missing_ok=True)
            self._run("apt-get", "download", f"{package.name}={package.version}", cwd=self._debs)
        if not path.is_file():
            raise BuildError(f"apt-get download {package.name} left no file {package.file}")
        return path

    def keep_only(self, packages: Iterable[Package]) -> None:
        """Forget the downloads of older versions and the private lists."""
        names = {package.file for package in packages}
        for path in self._debs.iterdir():
            if path.name not in names:
                path.unlink(missing_ok=True)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self, tool: str, *args: str, cwd: Path | None = None) -> str:
        return run([tool, *self._options, *args], cwd=cwd).decode()


def unpack(deb: Path, into: Path) -> None:
    """Unpack a package's files below a folder; owners become whoever runs this."""
    into.mkdir(parents=True, exist_ok=True)
    run(["dpkg-deb", "--extract", str(deb), str(into)])


def _is_whole(path: Path, package: Package) -> bool:
    if not path.is_file() or path.stat().st_size != package.size:
        return False
    if package.hash_kind not in hashlib.algorithms_available:
        return False
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, package.hash_kind).hexdigest() == package.hash
