"""Remove a cloud for good: its guests, then its files in DIR, and nothing that it didn't make.

What always holds: the DIR/lock is ours meanwhile, so no cloud runs there; what is on the host is found by our
mark on the thing itself (the drivers' business), so a broken database doesn't matter; files of names that we
never write stay, and so does a DIR that holds any.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import shutil
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

from kilonova.cli import running
from kilonova.cli.errors import CliError

# Everything that any part of kilonova ever writes into DIR, as glob patterns of its top level. The name that
# drivers know their things by goes last: a purge that was stopped can be repeated.
OWNED = (
    "kilonova.pid",
    "kilonova.log*",
    "clouds.yaml*",
    "openrc*",
    "state.json*",
    "verdict.json*",
    "ca.pem",
    "kilonova.db*",
    "image-store",
    "guest-image",
    "up.out",
    ".write-check",
    "nova_api*.db*",
    "nova_cell*.db*",
    "global*.db*",
    "cell*.db*",
    "backup*",
    "compute",
    "ledger.log*",
    "enrolment",
    "images",
    "keys",
    "libvirt",
    "run",
    "sim",
    "tls",
    "tmp",
    ".cloud-id.*",
    "cloud-id",
    "lock",
)


def purge_guests(folder: Path) -> list[str]:
    """Let every driver destroy what it marked as made by the cloud in `folder`; return lines to show."""
    result = import_module("kilonova.compute.virt.registry").purge(folder)
    if inspect.iscoroutine(result):
        result = asyncio.run(result)
    return [f"Removed {line}" for line in result or ()]


def purge_files(folder: Path) -> list[str]:
    """Remove our files from `folder`, and `folder` itself once it's empty; return lines to show."""
    # What guests had is gone already; a stranger's file among it stays.
    for path in (*folder.glob("instances/*"), folder / "instances"):
        with contextlib.suppress(OSError):
            path.rmdir()
    for pattern in OWNED:
        for path in folder.glob(pattern):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    left = sorted(path.name for path in folder.iterdir())
    if left:
        return [f"Left in {folder} (not made by kilonova): {', '.join(left)}"]
    folder.rmdir()
    return [f"Removed {folder}"]


def purge_world(folder: Path) -> Iterator[str]:
    """Destroy all that the cloud in `folder` made; yields lines to show. Raises CliError when it runs."""
    if not folder.is_dir():
        yield f"Nothing to purge: there is no {folder}"
        return
    try:
        with running.hold(folder):
            yield from purge_guests(folder)
            yield from purge_files(folder)
    except OSError as error:
        raise CliError(f"can't purge {folder}: {error}") from None
