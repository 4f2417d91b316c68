"""A host in a process of its own, for tests that kill it: bus_child.py URL KEYS NAME."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from kilonova.bus.api import Result, Sender
from kilonova.bus.envelope import identity
from kilonova.bus.factory import open_bus


async def main(url: str, keys: str, name: str) -> None:
    bus = open_bus(url, identity(name, "host"), Path(keys))

    async def pid(sender: Sender, method: str, payload: bytes) -> Result:
        return Result(b"%d" % os.getpid())

    bus.serve(name, pid)
    await bus.start()
    await asyncio.Event().wait()


asyncio.run(main(*sys.argv[1:4]))
