"""A plain user's guest under qemu:///session: prints the URI, its states, and what is left at the end.

Usage: python virt_session.py DIR
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from virt_images import CONFIG_DRIVE, FileImage, boot_sector, make_spec

from kilonova.compute.virt import registry
from kilonova.compute.virt.libvirt.driver import LibvirtDriver


async def main(directory: Path) -> None:
    image = directory / "tiny.raw"
    image.write_bytes(boot_sector())
    driver = registry.create("libvirt", directory, "host-1")
    assert isinstance(driver, LibvirtDriver)
    await driver.start(lambda _uuid: None)
    print(driver.uri)
    spec = make_spec()
    fact = await driver.ensure_guest(spec, FileImage(image, "raw"), CONFIG_DRIVE, lambda _percent, _detail: None)
    print(fact.power_state.name)
    while b"kilonova test guest" not in await driver.console_log(spec.uuid, 4096):  # noqa: ASYNC110 - a file
        await asyncio.sleep(0.1)
    print((await driver.power_off(spec.uuid, 0)).power_state.name)
    await driver.stop()
    await asyncio.to_thread(registry.purge, directory)
    left = (directory / "instances").rglob("*")
    print([str(path) for path in left])


asyncio.run(main(Path(sys.argv[1])))
