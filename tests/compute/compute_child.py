"""A compute process over the sim world, for tests that kill it: compute_child.py URL KEYS WORLD DIRECTORY HOST..."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from kilonova.bus.envelope import identity
from kilonova.bus.factory import open_bus
from kilonova.compute.service import ComputeService
from kilonova.compute.virt.sim.driver import SimDriver
from kilonova.compute.virt.sim.world import SimWorld


async def main(url: str, keys: str, world_path: str, directory: str, *hosts: str) -> None:
    world = SimWorld(Path(world_path))
    bus = open_bus(url, identity("compute-1", "host"), Path(keys))
    drivers = {host: SimDriver(world, host) for host in hosts}
    service = ComputeService(bus, "compute-1", drivers, Path(directory), durable=False)
    await service.start()
    await bus.start()
    await asyncio.Event().wait()


asyncio.run(main(*sys.argv[1:]))
