"""A process that calls one `ensure_guest` and dies by SIGKILL when the progress reaches a percentage.

Usage: python virt_child.py KIND DIR HOSTNAME OPTIONS-JSON SPEC-JSON IMAGE-PATH FORMAT DIE-AT
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import msgspec
from virt_images import CONFIG_DRIVE, FileImage

from kilonova.compute.virt.registry import create
from kilonova.model.guest import GuestSpec


async def main(kind: str, directory: str, host: str, options: str, spec: str, image: str, form: str, die: str) -> None:
    def progress(percent: int, _detail: str) -> None:
        if percent >= int(die) >= 0:
            os.kill(os.getpid(), signal.SIGKILL)

    driver = create(kind, Path(directory), host, msgspec.json.decode(options))
    await driver.start(lambda _uuid: None)
    given = FileImage(Path(image), form) if image else None
    decoded = msgspec.json.decode(spec, type=GuestSpec)
    await driver.ensure_guest(decoded, given, CONFIG_DRIVE, progress)
    await driver.stop()


asyncio.run(main(*sys.argv[1:]))
