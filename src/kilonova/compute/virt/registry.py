"""Which drivers there are; the only place that knows all of them.

A driver's modules are imported when one is asked for, so a cloud of sim hosts never loads libvirt.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kilonova.compute.virt.driver import Driver
from kilonova.compute.virt.mark import cloud_id, read_cloud_id
from kilonova.log import get_logger

if TYPE_CHECKING:
    from kilonova.compute.virt.sim.world import SimWorld

log = get_logger(__name__)
_worlds: dict[Path, SimWorld] = {}
# What thousands of sim hosts in one DIR share.
_sims: dict[Path, tuple[SimWorld, str]] = {}


def sim_world(directory: Path) -> SimWorld:
    """The one sim world of DIR in this process, opened on first use."""
    from kilonova.compute.virt.sim.world import SimWorld

    path = (directory / "sim" / "world.db").resolve()
    if path not in _worlds:
        _worlds[path] = SimWorld(path)
    return _worlds[path]


def create(kind: str, directory: Path, hostname: str, options: Mapping[str, Any] | None = None) -> Driver:
    """A driver, not yet started. `kind`: sim, libvirt, uml.

    Options of libvirt: `virt_type` (qemu, kvm), `uri` (default: whatever daemon the machine has, or our own).
    Options of uml: `kernel`, `initrd` (paths). Unknown ones are a TypeError.
    """
    chosen = dict(options or {})
    if kind == "sim":
        from kilonova.compute.virt.sim.driver import SimDriver

        if directory not in _sims:
            _sims[directory] = sim_world(directory), cloud_id(directory)
        world, cloud = _sims[directory]
        return SimDriver(world, hostname, cloud, **chosen)
    directory = directory.resolve()
    match kind:
        case "libvirt":
            from kilonova.compute.virt.libvirt.driver import LibvirtDriver

            return LibvirtDriver(directory, hostname, cloud_id(directory), **chosen)
        case "uml":
            from kilonova.compute.virt.uml.driver import UmlDriver

            return UmlDriver(directory, hostname, cloud_id(directory), **chosen)
    raise ValueError(f"no such driver: {kind}")


def purge(directory: Path) -> list[str]:
    """Destroy what this cloud made on this host; one line a thing, for the operator. Blocks.

    Goes by marks and by DIR's tree only, so it needs no database. The mark itself stays: it goes with DIR.
    """
    directory = directory.resolve()
    cloud = read_cloud_id(directory)
    if cloud is None:
        return []
    said: list[str] = []
    if (directory / "sim" / "world.db").exists():
        said += _purge_sim(directory, cloud)
    from kilonova.compute.virt.layout import Layout
    from kilonova.compute.virt.libvirt.purge import purge as purge_libvirt
    from kilonova.compute.virt.libvirt.purge import stop_daemons
    from kilonova.compute.virt.uml.driver import purge as purge_uml

    said += purge_uml(directory, cloud)
    said += purge_libvirt(directory, cloud)
    layout = Layout(directory)
    said += [f"files of {uuid}" for uuid in layout.uuids() if layout.remove(uuid)]
    return said + stop_daemons(directory)


def _purge_sim(directory: Path, cloud: str) -> list[str]:
    path = directory / "sim" / "world.db"
    _sims.clear()
    opened = _worlds.pop(path, None)
    try:
        world = opened or sim_world(directory)
        gone, empty = world.purge(cloud), world.empty()
        world.close()
    except sqlite3.DatabaseError as error:
        # Broken: all of it is ours to remove, for it is a simulation inside DIR.
        gone, empty = 1, True
        log.warning("the sim world is unreadable", extra={"kn": {"error": str(error)}})
    _worlds.pop(path, None)
    if empty:
        for suffix in ("", "-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            path.parent.rmdir()
    return [f"sim thing {n + 1} of {gone}" for n in range(gone)] if gone < 10 else [f"{gone} sim things"]
