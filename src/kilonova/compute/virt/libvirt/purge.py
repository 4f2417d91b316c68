"""Undo all that a cloud made under libvirt, by the marks on the things themselves. Blocks."""

from __future__ import annotations

from pathlib import Path

from kilonova.compute.virt.layout import Layout
from kilonova.compute.virt.libvirt import daemon
from kilonova.compute.virt.libvirt.guests import mark_of, remove
from kilonova.log import get_logger

log = get_logger(__name__)


def purge(directory: Path, cloud: str) -> list[str]:
    """Guests with the cloud's mark, files in its tree, its daemons; one line a thing.

    Works without libvirt (then only files go) and starts the daemon if guests may be running under a
    dead one: nothing else could end them.
    """
    said: list[str] = []
    layout = Layout(directory)
    if layout.root.exists() or (directory / "libvirt").exists():
        said += _guests(directory, cloud)
    for uuid in layout.uuids():
        if layout.remove(uuid):
            said.append(f"files of {uuid}")
    return said + daemon.stop(directory)


def _guests(directory: Path, cloud: str) -> list[str]:
    try:
        import libvirt
    except ImportError:
        return []
    said = []
    conn = libvirt.open(daemon.ensure_daemon(directory))
    try:
        for domain in conn.listAllDomains():
            mark = mark_of(domain)
            if mark is not None and mark.cloud == cloud:
                name = domain.name()
                remove(domain)
                said.append(f"guest {name}")
    finally:
        conn.close()
    return said
