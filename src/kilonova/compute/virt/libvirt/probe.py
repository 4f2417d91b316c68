"""Whether guests get KVM or software emulation, by seeing a kernel run.

A /dev/kvm may open, and run a boot sector, and still hang a Linux guest. So the verdict is KVM only when a
kernel under it reached the end of its start within seconds, and guests' QEMU may open the device at all. The
kernel runs in a QEMU of its own; if that hangs it is killed, and if it can't be killed (state D) it is left behind:
nothing ever waits for it. A verdict holds for this boot of the host and is kept in DIR/libvirt/virt-type.json.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import msgspec
from msgspec import Struct

from kilonova.compute.virt.libvirt import daemon

LIMIT_S = 6.0
"""From the start of QEMU to the sign that the kernel is up; under KVM it takes about one second."""

_UP = re.compile(rb"Freeing unused kernel|Run /\S*init|Unable to mount root fs|login:")
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Verdict(Struct, frozen=True, kw_only=True):
    virt_type: str
    """`kvm` or `qemu`."""
    why: str
    """For `status`: one sentence."""
    boot_id: str = ""
    tried: bool = False
    """A kernel was started to find out."""


async def decide(directory: Path, *, kernel: Path | None = None, disk: Path | None = None) -> Verdict:
    """The verdict for this host, kept or found out now; takes at most about LIMIT_S.

    `kernel`: a bzImage with a serial console; or `disk`: a bootable qcow2 (not written to). With neither
    it can't be seen that KVM works: emulation, and the question is asked again next time.
    """
    kept = read(directory)
    if kept and (kept.tried or (kernel is None and disk is None)):
        return kept
    found = await _find_out(directory, kernel, disk)
    verdict = msgspec.structs.replace(found, boot_id=_boot_id())
    kept_in = directory / "libvirt" / "virt-type.json"
    part = kept_in.with_suffix(".part")
    part.parent.mkdir(parents=True, exist_ok=True)
    part.write_bytes(msgspec.json.encode(verdict))
    part.rename(kept_in)
    return verdict


def read(directory: Path) -> Verdict | None:
    """The kept verdict, if it is of this boot and the device is still as it was."""
    try:
        kept = msgspec.json.decode((directory / "libvirt" / "virt-type.json").read_bytes(), type=Verdict)
    except (OSError, msgspec.DecodeError):
        return None
    if kept.boot_id != _boot_id() or (kept.virt_type == "kvm" and not Path("/dev/kvm").exists()):
        return None
    return kept


async def _find_out(directory: Path, kernel: Path | None, disk: Path | None) -> Verdict:
    if not Path("/dev/kvm").exists():  # noqa: ASYNC240 - a look at /dev
        return Verdict(virt_type="qemu", why="this host has no /dev/kvm", tried=True)
    user = daemon.qemu_user(daemon.SYSTEM) if os.geteuid() == 0 else None
    if not daemon.kvm_open_to(user) and not await asyncio.to_thread(daemon.may_lend_kvm, directory):
        who = f"{user.pw_name}, who runs the guests" if user else "this user; the group kvm would have it"
        return Verdict(virt_type="qemu", why=f"/dev/kvm is not open to {who}", tried=True)
    qemu = shutil.which("qemu-system-" + os.uname().machine)
    if qemu is None or (kernel is None and disk is None):
        return Verdict(virt_type="qemu", why="no kernel at hand to see whether KVM works")
    if await kernel_runs([qemu, *_machine(kernel, disk)], LIMIT_S):
        return Verdict(virt_type="kvm", why="a Linux kernel was seen to run under KVM", tried=True)
    return Verdict(virt_type="qemu", why=f"under KVM no kernel came up in {LIMIT_S:.0f} s", tried=True)


async def kernel_runs(command: list[str], limit_s: float) -> bool:
    """Whether the command's output shows a kernel that came up. Ends by the limit, whatever the child does."""
    try:
        child = subprocess.Popen(  # noqa: ASYNC220 - asyncio would wait for a child that can't die
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
    except OSError:
        return False
    assert child.stdout is not None
    out = child.stdout.fileno()
    os.set_blocking(out, False)
    loop = asyncio.get_running_loop()
    said = bytearray()
    ended = loop.create_future()

    def readable() -> None:
        try:
            piece = os.read(out, 65536)
        except BlockingIOError:
            return
        said.extend(piece)
        if not ended.done() and (not piece or _UP.search(said)):
            ended.set_result(None)
        if not piece:
            loop.remove_reader(out)

    loop.add_reader(out, readable)
    try:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ended, limit_s)
    finally:
        loop.remove_reader(out)
        child.stdout.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        # Reaps it if it died at once; an unkillable one is never waited for.
        child.poll()
    return bool(_UP.search(said))


def _machine(kernel: Path | None, disk: Path | None) -> list[str]:
    machine = ["-accel", "kvm", "-cpu", "host", "-M", "q35", "-m", "256", "-nodefaults", "-display", "none"]
    machine += ["-no-reboot", "-serial", "stdio", "-nic", "none"]
    if kernel is not None:
        return [*machine, "-kernel", str(kernel), "-append", "console=ttyS0 panic=-1"]
    return [*machine, "-snapshot", "-drive", f"file={disk},format=qcow2,if=virtio"]


def _boot_id() -> str:
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""
