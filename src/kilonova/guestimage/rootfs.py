"""The guest's two trees: the initramfs that finds the root file system, and the root file system itself.

Our own scripts and settings lie in the folder ``rootfs/`` beside this file as they lie in the guest (except
``initramfs/``, which is the initramfs' own); a file that starts with ``#!`` is executable. All else comes from
packages. It must not know about disks or boot loaders.
"""

from __future__ import annotations

from pathlib import Path

from kilonova.guestimage.modules import BOOT_MODULES, GUEST_MODULES, ModuleStore, install
from kilonova.guestimage.toolbox import Toolbox, run
from kilonova.guestimage.tree import Tree

OWN_FILES = Path(__file__).parent / "rootfs"
PROGRAMS = {
    "usr/sbin/dropbear": "dropbear",
    "usr/bin/dropbearkey": "dropbearkey",
    "usr/bin/ssh": "dbclient",
    "usr/sbin/resize2fs": "resize2fs",
}
"""Dynamically linked programs of the guest, by their path in it."""

_EMPTY = ("boot", "dev", "home", "mnt", "proc", "run", "sys")
_MERGED = ("bin", "sbin", "lib", "lib64")
_LIBRARIES = "usr/lib/x86_64-linux-gnu"
_OWN_APPLETS = frozenset({"poweroff", "reboot", "halt", "resize2fs", "dpkg", "dpkg-deb", "rpm", "telnetd", "httpd"})
"""Busybox applets that the guest has its own program for, or is better without."""

_INIT_APPLETS = [
    "sh",
    "mount",
    "umount",
    "mkdir",
    "modprobe",
    "cat",
    "sort",
    "xargs",
    "dd",
    "echo",
    "printf",
    "usleep",
    "switch_root",
    "blockdev",
    "poweroff",
    "od",
    "tr",
]


def initramfs(toolbox: Toolbox, modules: ModuleStore, release: str) -> Tree:
    """Return the tree of the initramfs: busybox, the modules for disks, and our ``/init``."""
    tree = Tree()
    for folder in ("dev", "proc", "sys", "root", "run"):
        tree.directory(folder)
    _merge(tree)
    tree.file("usr/bin/busybox", toolbox.program("busybox").read_bytes(), 0o755)
    for applet in _INIT_APPLETS:
        tree.link(f"usr/bin/{applet}", "busybox")
    install(tree, release, modules.closure(BOOT_MODULES))
    tree.file("init", (OWN_FILES / "initramfs/init").read_bytes(), 0o755)
    return tree


def root(toolbox: Toolbox, modules: ModuleStore, release: str, about: str) -> Tree:
    """Return the tree of the root file system; ``about`` is the text of /etc/kilonova-release."""
    tree = Tree()
    for folder in (*_EMPTY, "etc/dropbear", "usr/lib64", "var/lib", "var/log"):
        tree.directory(folder)
    tree.directory("root", 0o700)
    tree.directory("tmp", 0o1777)
    tree.link("var/run", "/run")
    _merge(tree)
    _busybox(tree, toolbox)
    _programs(tree, toolbox)
    install(tree, release, modules.closure([*BOOT_MODULES, *GUEST_MODULES]))
    tree.file("etc/kilonova-release", about.encode())
    for path in sorted(OWN_FILES.rglob("*")):
        inside = path.relative_to(OWN_FILES).as_posix()
        if path.is_file() and not inside.startswith("initramfs/"):
            data = path.read_bytes()
            tree.file(inside, data, 0o755 if data.startswith(b"#!") else 0o644)
    tree.file("etc/shadow", (OWN_FILES / "etc/shadow").read_bytes(), 0o600)
    return tree


def _merge(tree: Tree) -> None:
    for name in _MERGED:
        tree.directory(f"usr/{name}")
        tree.link(name, f"usr/{name}")


def _busybox(tree: Tree, toolbox: Toolbox) -> None:
    binary = toolbox.program("busybox")
    tree.file("usr/bin/busybox", binary.read_bytes(), 0o755)
    for line in run([str(binary), "--list-full"]).decode().split():
        applet = Path(line).name
        folder = "sbin" if Path(line).parent.name == "sbin" else "bin"
        if applet not in _OWN_APPLETS and applet != "busybox":
            tree.link(f"usr/{folder}/{applet}", "/usr/bin/busybox")


def _programs(tree: Tree, toolbox: Toolbox) -> None:
    sources = {path: toolbox.program(name) for path, name in PROGRAMS.items()}
    for path, source in sources.items():
        tree.file(path, source.read_bytes(), 0o755)
    for soname, source in toolbox.libraries(*sources.values()).items():
        tree.file(f"{_LIBRARIES}/{soname}", source.read_bytes(), 0o755)
        if soname.startswith("ld-linux"):
            tree.link(f"usr/lib64/{soname}", f"/{_LIBRARIES}/{soname}")
