"""A real guest: from POST to its kernel's first line, beside `virsh create` of the same XML with its disk in place.

Needs what `kilonova up --driver libvirt` needs, and root. Both are timed on the same guest, one after the other:
the cloud's, then a copy of its definition and its files under another name.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
import time
from pathlib import Path
from uuid import uuid4

from kilonova.bench.figure import Figure, quantile
from kilonova.bench.served import ServedCloud

LIMIT_S = 600.0
TIMES = 20
_FIRST_LINE = b"Linux version"


def _spoke(console: Path) -> bool:
    return console.exists() and _FIRST_LINE in console.read_bytes()


async def kernel_line(console: Path, seconds: float = 60.0) -> None:
    """Return once the guest's serial console shows its kernel's first line."""
    deadline = time.monotonic() + seconds
    while not _spoke(console):
        if time.monotonic() > deadline:
            raise TimeoutError(f"no kernel spoke in {console}")
        await asyncio.sleep(0.003)


def virsh(uri: str, *words: str) -> str:
    """What virsh says; raises CalledProcessError."""
    return subprocess.run(["virsh", "-q", "-c", uri, *words], capture_output=True, check=True, text=True).stdout


async def by_virsh(uri: str, xml: str, uuid: str, home: Path) -> float:
    """Seconds from `virsh create` of a copy of a stopped guest to its kernel's first line."""
    other = str(uuid4())
    copy = home.with_name(other)
    xml = re.sub(r"<metadata>.*?</metadata>", "", xml, flags=re.DOTALL).replace(uuid, other)
    xml = re.sub(r"<name>.*?</name>", f"<name>bench-{other[:8]}</name>", xml)
    xml = re.sub(r"<title>.*?</title>", "", xml)
    try:
        await asyncio.to_thread(shutil.copytree, home, copy)
        copy.chmod(0o711)
        for log in copy.glob("console.log*"):
            log.unlink()
        (copy / "bench.xml").write_text(xml)
        started = time.perf_counter()
        await asyncio.to_thread(virsh, uri, "create", str(copy / "bench.xml"))
        try:
            await kernel_line(copy / "console.log")
            return time.perf_counter() - started
        finally:
            await asyncio.to_thread(virsh, uri, "destroy", other)
    finally:
        shutil.rmtree(copy, ignore_errors=True)


async def run(times: int = TIMES) -> list[Figure]:
    from kilonova.compute.virt.libvirt.daemon import SYSTEM as URI

    ours, theirs = [], []
    async with ServedCloud(1, driver="libvirt") as cloud:
        connection = cloud.connect()
        async with cloud.events() as events:
            for _ in range(times + 1):
                started = time.perf_counter()
                uuid = await cloud.create(connection)
                home = cloud.folder / "instances" / uuid
                await kernel_line(home / "console.log")
                ours.append(time.perf_counter() - started)
                await events.until(uuid, "active")
                xml = await asyncio.to_thread(virsh, URI, "dumpxml", "--inactive", uuid)
                await connection.json("POST", f"/compute/v2.1/servers/{uuid}/action", {"os-stop": None})
                await asyncio.to_thread(virsh, URI, "destroy", uuid)
                await events.until(uuid, "stopped")
                theirs.append(await by_virsh(URI, xml, uuid, home))
                await connection.json("DELETE", f"/compute/v2.1/servers/{uuid}")
                await events.until(uuid, "deleted")
    del ours[0], theirs[0]  # the image was brought into the host's cache
    a, b = quantile(ours, 0.5) * 1e3, quantile(theirs, 0.5) * 1e3
    return [
        Figure(name="POST to the first kernel line: p50", value=a, unit="ms", note=f"of {times}"),
        Figure(name="`virsh create` to the same: p50", value=b, unit="ms"),
        Figure(name="more than virsh", value=a - b, unit="ms", below=300),
    ]
