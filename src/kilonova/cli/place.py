"""Where a cloud lives: DIR, and the names of the files in it that commands share.

What always holds: every command finds the same DIR for the same user without asking anyone. What counts is
what this process is allowed to do, not its uid: root in a container without CAP_NET_ADMIN is a plain user here.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

SYSTEM_DIR = Path("/var/lib/kilonova")
LOCK = "lock"
PID = "kilonova.pid"
LOG = "kilonova.log"
CLOUDS = "clouds.yaml"
OPENRC = "openrc"
STATE = "state.json"
CAP_NET_ADMIN = 12


def may_make_bridges() -> bool:
    """Whether this process holds CAP_NET_ADMIN."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return False
    effective = next((line.split()[1] for line in lines if line.startswith("CapEff:")), "0")
    return bool(int(effective, 16) >> CAP_NET_ADMIN & 1)


def may_use_system_libvirt() -> bool:
    """Whether qemu:///system is ours to use: its socket is open to us, or we may start its daemon."""
    return os.geteuid() == 0 or any(
        os.access(f"/run/libvirt/{name}", os.R_OK | os.W_OK) for name in ("libvirt-sock", "virtqemud-sock")
    )


def may_keep(folder: Path) -> bool:
    """Whether `folder` is writable, or could be made."""
    while not folder.exists():
        folder = folder.parent
    return os.access(folder, os.W_OK | os.X_OK)


def is_system_wide() -> bool:
    """Whether this process may run a cloud with bridges under qemu:///system."""
    return may_make_bridges() and may_use_system_libvirt() and may_keep(SYSTEM_DIR)


def default_dir() -> Path:
    """Return KILONOVA_DIR if set, else /var/lib/kilonova or the user's own data folder."""
    if chosen := os.environ.get("KILONOVA_DIR"):
        return Path(chosen).absolute()
    if is_system_wide():
        return SYSTEM_DIR
    data = os.environ.get("XDG_DATA_HOME") or os.path.join(os.path.expanduser("~"), ".local", "share")
    return Path(data) / "kilonova"


def add_dir_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--dir DIR`; `args.dir` is an absolute Path."""
    parser.add_argument(
        "--dir",
        type=lambda text: Path(text).absolute(),
        default=default_dir(),
        help="where the cloud lives (default: %(default)s)",
    )
