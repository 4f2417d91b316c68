"""The mark that all things of one cloud on a host carry.

It lives in DIR/cloud-id, apart from every database, so that a purge knows what is ours when nothing else
can be read. Who has no mark owns nothing: a purge without the file destroys nothing outside DIR.
"""

from __future__ import annotations

import os
import uuid
from pathlib import Path

NAMESPACE = "https://kilonova.invalid/xmlns/1"
"""XML namespace of our element in a libvirt domain's metadata."""


def cloud_id(directory: Path) -> str:
    """This cloud's id, made on first use; two processes that ask at once get the same one."""
    known = read_cloud_id(directory)
    if known:
        return known
    directory.mkdir(parents=True, exist_ok=True)
    fresh = directory / f".cloud-id.{uuid.uuid4().hex}"
    fresh.write_text(str(uuid.uuid4()) + "\n")
    try:
        os.link(fresh, directory / "cloud-id")
    except FileExistsError:
        pass
    finally:
        fresh.unlink()
    known = read_cloud_id(directory)
    if not known:
        raise ValueError(f"{directory / 'cloud-id'} does not hold an id")
    return known


def read_cloud_id(directory: Path) -> str | None:
    """The id if the file holds one."""
    try:
        return str(uuid.UUID((directory / "cloud-id").read_text().strip()))
    except (OSError, ValueError):
        return None
