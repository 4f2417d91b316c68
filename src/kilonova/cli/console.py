"""A server's serial console, by name or id. Ctrl-] leaves it; without a terminal its log is printed.

Why: the way into a guest whose network doesn't work. What always holds: it asks the hypervisor and the records
in DIR, not the API, so it works for the operator of this host also while the cloud is stopped, and for every
project's servers. A simulated guest has no console but a log, which is printed.
"""

from __future__ import annotations

import argparse
import sqlite3
import subprocess
import sys
from pathlib import Path

from kilonova.cli import os_packages, place
from kilonova.cli.errors import CliError

DATABASES = ("kilonova.db", "nova_cell*.db", "cell*.db")
TAIL = 2000  # bytes of what it said before, so that a quiet guest's prompt is seen


def add_arguments(parser: argparse.ArgumentParser) -> None:
    place.add_dir_argument(parser)
    parser.add_argument("--force", action="store_true", help="take it from whoever is connected")
    parser.add_argument("server", help="name or id")


def find(folder: Path, wanted: str) -> tuple[str, str]:
    """Return (id, name) of the one server that `wanted` names. Raises CliError for none or several."""
    files = [path for pattern in DATABASES for path in folder.glob(pattern)]
    if not files:
        raise CliError(f"no cloud was made in {folder}; `kilonova up` makes one")
    found: dict[str, str] = {}
    for path in files:
        try:
            with sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=5) as database:
                rows = database.execute("SELECT uuid, name FROM servers WHERE uuid = ?1 OR name = ?1", (wanted,))
                found.update(rows.fetchall())
            database.close()
        except sqlite3.Error as error:
            raise CliError(f"{path} can't be read: {error}") from None
    if wanted in found:
        return wanted, found[wanted]
    if not found:
        raise CliError(f"no server {wanted!r} in {folder}")
    if len(found) > 1:
        raise CliError(f"{len(found)} servers are named {wanted!r}; name one by its id: {', '.join(sorted(found))}")
    return next(iter(found.items()))


def sim_log(folder: Path, uuid: str) -> bytes | None:
    """What a simulated guest said, or None if it isn't one."""
    path = folder / "sim" / "world.db"
    if not path.exists():
        return None
    with sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=5) as world:
        row = world.execute("SELECT console FROM guest WHERE uuid = ?", (uuid,)).fetchone()
    world.close()
    return bytes(row[0]) if row else None


def show(text: bytes) -> None:
    sys.stdout.buffer.write(text if text.endswith(b"\n") or not text else text + b"\n")
    sys.stdout.buffer.flush()


def run(args: argparse.Namespace) -> int:
    uuid, name = find(args.dir, args.server)
    said = sim_log(args.dir, uuid)
    if said is not None:
        show(said)
        return 0
    try:
        uri = (args.dir / "libvirt" / "uri").read_text().strip()
    except OSError:
        raise CliError(f"server {name} has no guest on this host") from None
    virsh = os_packages.program("virsh")
    if virsh is None:
        raise CliError("virsh isn't installed; its package is libvirt-clients")
    command = [virsh, "-q", "-c", uri]
    asked = subprocess.run(
        [*command, "domstate", uuid], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60
    )
    if asked.returncode:
        gone = "domain" in asked.stderr.lower()
        why = "has no guest on this host" if gone else f"can't be reached: {asked.stderr.strip().splitlines()[-1]}"
        raise CliError(f"server {name} {why}")
    before = last_words(args.dir / "instances" / uuid / "console.log", TAIL if sys.stdin.isatty() else 1 << 20)
    if not sys.stdin.isatty():
        show(before)
        return 0
    if asked.stdout.strip() != "running":
        raise CliError(f"server {name} is not running ({asked.stdout.strip()}); start it, or see `console log show`")
    show(before)
    from kilonova.cli import serial_line

    return serial_line.attach(uri, uuid, force=args.force, connected=f"[{name}: serial console; leave with Ctrl-]]")


def last_words(path: Path, size: int) -> bytes:
    """The end of a console log, from the start of a line; b"" when there is none."""
    from kilonova.compute.virt.tail import tail

    try:
        text = tail(path, size)
    except OSError:
        return b""
    return text if len(text) < size else text.partition(b"\n")[2]
