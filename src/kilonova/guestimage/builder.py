"""Builds the guest image, or finds it built: the one entry of this room.

Synchronous and slow (seconds): meant for a process or thread of its own. What it makes depends only on the
packages' versions and the files of this folder; their digest names the result in the cache, which is safe
to delete and to share between processes. A target appears whole or not at all.
"""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from kilonova.guestimage import cpio, disk, filesystems, recipe, rootfs
from kilonova.guestimage.errors import BuildError
from kilonova.guestimage.modules import ModuleStore
from kilonova.guestimage.packages import Apt, Package, unpack
from kilonova.guestimage.toolbox import Toolbox

Progress = Callable[[str, float], None]
"""Called with what is being done and the part of the whole that is done, 0 to 1."""

ROOT_SIZE = 192 * 2**20
"""Bytes of the root file system; a guest grows it to its disk at boot."""

MIN_RAM = 96
"""MiB. A distribution's kernel is linked at 16 MiB, unpacks to 51 (Debian 12) or 56 MiB (Debian 13), and starts
nothing with less than 72 or so; a machine of 64 MiB restarts for ever in its boot loader."""


class GuestImage(msgspec.Struct, frozen=True, kw_only=True):
    """A built image: a qcow2 disk for x86_64 that boots by BIOS and speaks on its first serial port."""

    path: str
    digest: str
    """Of the packages' versions and our files (hex); equal digests are equal images."""
    sha256: str
    """Of the file (hex)."""
    size: int
    """Bytes of the file."""
    virtual_size: int
    """Bytes of the disk."""
    min_ram: int
    """MiB of memory below which the kernel does not start: Glance's word and meaning."""
    kernel: str
    """The kernel's release, as uname -r says in the guest."""
    distribution: str
    packages: dict[str, str]
    """Names and versions of the packages whose files are in the guest or made it."""


@dataclass(frozen=True, slots=True)
class _Work:
    """The folders of one build, gone after it."""

    folder: Path
    tree: Path
    toolbox: Toolbox


def current(cache: Path) -> GuestImage | None:
    """Return the image in the cache if it was made from this folder's files; asks nobody, takes milliseconds."""
    try:
        known = msgspec.json.decode((cache / "guest.json").read_bytes(), type=_Manifest)
    except (OSError, msgspec.DecodeError):
        return None
    if known.files != _files_digest() or not Path(known.image.path).is_file():
        return None
    return known.image if Path(known.image.path).stat().st_size == known.image.size else None


def build(target: Path, *, cache: Path, progress: Progress, refresh: bool = False) -> GuestImage:
    """Put the guest image at ``target``, from the cache if it is there, and tell about it.

    ``refresh`` asks apt for newer packages even if the cache has an image of today's files. Raises
    ``BuildError`` with one line to act on, ``OSError`` for a full or unwritable disk.
    """
    recipe.check_machine()
    cache = cache.absolute()
    cache.mkdir(parents=True, exist_ok=True)
    with _locked(cache / "lock"):
        image = None if refresh else current(cache)
        if image is None:
            image = _build(cache, progress)
        progress("copying the guest image", 0.98)
        _place(Path(image.path), target)
    progress("guest image ready", 1.0)
    return msgspec.structs.replace(image, path=str(target))


class _Manifest(msgspec.Struct, frozen=True, kw_only=True):
    files: str
    image: GuestImage


def _build(cache: Path, progress: Progress) -> GuestImage:
    progress("choosing packages", 0.02)
    apt, packages = _choose(cache, progress)
    files = _files_digest()
    digest = hashlib.sha256(files.encode() + repr([(p.name, p.version) for p in packages]).encode()).hexdigest()
    final = cache / f"guest-{digest[:16]}.qcow2"
    with tempfile.TemporaryDirectory(dir=cache, prefix="build-") as folder:
        work = _unpack(apt, packages, Path(folder), progress)
        progress("building the guest's file systems", 0.6)
        image = _make(work, packages, digest, final, progress)
    (cache / "guest.json.new").write_bytes(msgspec.json.encode(_Manifest(files=files, image=image)))
    os.replace(cache / "guest.json.new", cache / "guest.json")
    for old in cache.glob("guest-*.qcow2"):
        if old != final:
            old.unlink()
    apt.keep_only(packages)
    return image


def _choose(cache: Path, progress: Progress) -> tuple[Apt, list[Package]]:
    """Ask the machine's package lists, and if they do not know all (or are out of date), lists of our own."""
    apt = Apt(cache, private=False)
    try:
        packages = recipe.choose(apt)
        apt.download(min(packages, key=lambda package: package.size))
    except BuildError:
        progress("fetching package lists", 0.04)
        apt = Apt(cache, private=True)
        apt.update()
        packages = recipe.choose(apt)
    return apt, packages


def _unpack(apt: Apt, packages: list[Package], folder: Path, progress: Progress) -> _Work:
    total = sum(package.size for package in packages)
    done = 0
    for package in packages:
        progress(f"fetching and unpacking {package.name}", 0.05 + 0.55 * done / total)
        unpack(apt.download(package), folder / "tree")
        done += package.size
    return _Work(folder, folder / "tree", Toolbox(folder / "tree", folder))


def _make(work: _Work, packages: list[Package], digest: str, final: Path, progress: Progress) -> GuestImage:
    kernel = next(iter(sorted((work.tree / "boot").glob("vmlinuz-*"))), None)
    if kernel is None:
        raise BuildError("no kernel in the kernel's package")
    release = kernel.name.removeprefix("vmlinuz-")
    modules = ModuleStore(_module_folder(work.tree, release), work.toolbox)
    system = _distribution()
    about = f"Kilonova guest {digest[:16]}\nLinux {release}, {system}\n"
    boot, root, raw = (work.folder / name for name in ("boot.img", "root.img", "disk.raw"))
    initrd = gzip.compress(cpio.archive(rootfs.initramfs(work.toolbox, modules, release)), mtime=0)
    filesystems.boot(work.toolbox, boot, work.folder / "fat", kernel=kernel.read_bytes(), initrd=initrd,
                     start=disk.ALIGNMENT)  # fmt: skip
    progress("building the guest's file systems", 0.7)
    tree = rootfs.root(work.toolbox, modules, release, about)
    filesystems.ext4(work.toolbox, root, work.folder, tree=tree, size=ROOT_SIZE, digest=digest)
    progress("writing the disk", 0.85)
    code = (work.tree / "usr/lib/syslinux/mbr/mbr.bin").read_bytes()
    disk.assemble(raw, code=code, signature=int(digest[:8], 16), boot=boot, root=root)
    disk.convert(raw, work.folder / "disk.qcow2")
    os.replace(work.folder / "disk.qcow2", final)
    with final.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    return GuestImage(
        path=str(final),
        digest=digest,
        sha256=sha256,
        size=final.stat().st_size,
        virtual_size=raw.stat().st_size,
        min_ram=MIN_RAM,
        kernel=release,
        distribution=system,
        packages={package.name: package.version for package in packages},
    )


def _module_folder(tree: Path, release: str) -> Path:
    for base in ("usr/lib/modules", "lib/modules"):
        if (tree / base / release).is_dir():
            return tree / base / release
    raise BuildError(f"no modules of kernel {release} in its packages")


def _distribution() -> str:
    try:
        lines = Path("/etc/os-release").read_text().splitlines()
    except OSError:
        return "unknown distribution"
    return next((line[12:].strip('"') for line in lines if line.startswith("PRETTY_NAME=")), "unknown distribution")


def _files_digest() -> str:
    """Digest what this folder adds to the packages: its code and the guest's own files."""
    here = Path(__file__).parent
    total = hashlib.sha256()
    for path in sorted([*here.glob("*.py"), *rootfs.OWN_FILES.rglob("*")]):
        if path.is_file():
            total.update(f"{path.relative_to(here)}\0{path.stat().st_size}\0".encode() + path.read_bytes())
    return total.hexdigest()


def _place(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists() and target.samefile(source):
        return
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        shutil.copyfile(source, part)
        os.replace(part, target)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
