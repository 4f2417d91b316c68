"""A guest on bare QEMU (software emulation): its serial console to wait on, its power button to press."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

DEADLINE = 90.0


class Machine:
    """One running QEMU; leaving the context kills it."""

    def __init__(self, process: asyncio.subprocess.Process, monitor: Path) -> None:
        self.process = process
        self.console = ""
        self._monitor = monitor
        self._taken = 0

    async def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait until the console, after what was waited for before, matches a regular expression."""
        assert self.process.stdout is not None
        try:
            async with asyncio.timeout(DEADLINE):
                while not (match := re.compile(pattern).search(self.console, self._taken)):
                    piece = await self.process.stdout.read(65536)
                    assert piece, f"the machine ended before {pattern!r}:\n{self.console[-3000:]}"
                    self.console += piece.decode(errors="replace").replace("\r", "")
        except TimeoutError:
            raise AssertionError(f"no {pattern!r} on the console:\n{self.console[-3000:]}") from None
        self._taken = match.end()
        return match

    async def read_to_end(self) -> None:
        """Read the console until the machine is off."""
        assert self.process.stdout is not None
        async with asyncio.timeout(DEADLINE):
            while piece := await self.process.stdout.read(65536):
                self.console += piece.decode(errors="replace").replace("\r", "")
            await self.process.wait()

    def cpu_seconds(self) -> float:
        """CPU time that QEMU has used so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / 100

    async def press_power_button(self) -> None:
        """Press the ACPI power button."""
        reader, writer = await asyncio.open_unix_connection(self._monitor)
        await reader.readline()
        for command in ("qmp_capabilities", "system_powerdown"):
            writer.write(json.dumps({"execute": command}).encode())
            await reader.readline()
        writer.close()


@asynccontextmanager
async def machine(folder: Path, image: Path, *options: str, memory: int = 128) -> AsyncIterator[Machine]:
    """Start a machine on an overlay of the image (or on the overlay a machine before left in the folder)."""
    disk, monitor = folder / "disk.qcow2", folder / "monitor"
    if not disk.exists():
        await run("qemu-img", "create", "-q", "-f", "qcow2", "-b", str(image), "-F", "qcow2", str(disk), "1G")
    process = await asyncio.create_subprocess_exec(
        "qemu-system-x86_64", "-accel", "tcg", "-M", "pc", "-cpu", "max", "-m", str(memory),
        "-nodefaults", "-display", "none", "-serial", "stdio", "-qmp", f"unix:{monitor},server,nowait",
        "-drive", f"file={disk},if=virtio", *options,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield Machine(process, monitor)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def drive(path: Path) -> Sequence[str]:
    """The options for a config drive as a second disk."""
    return ("-drive", f"file={path},if=virtio,format=raw,readonly=on")


async def run(*command: str) -> tuple[int, str]:
    """Run a program to its end: exit code, and output with errors."""
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(DEADLINE):
            out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, out.decode(errors="replace")


def free_port() -> int:
    """A TCP port of the loopback that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
