"""User-Mode Linux processes: started, found and ended by the mark on their command line. Blocks.

Always holds: a pid is trusted only while /proc shows our mark at it, so one that was used again by a stranger is
never signalled. A guest runs in a session of its own and outlives whoever started it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

from kilonova.compute.virt.driver import Transient
from kilonova.compute.virt.uml import launch

_MAGIC, _VERSION, _LENGTH = 0xCAFEBABE, 2, 512
_GONE_S = 5.0
_SETTLE = 50


def mark(cloud: str, uuid: str) -> str:
    """The kernel parameter that says whose guest a process is; the kernel hands it to init and ignores it."""
    return f"kilonova.guest={cloud}/{uuid}"


def alive(pid: int, sign: str) -> bool:
    """Whether that process carries the mark and is not a zombie."""
    for _ in range(_SETTLE):
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes()
            if line:
                return sign.encode() in line.split(b"\0")
            # No command line: a zombie, a kernel thread, or one in the middle of exec.
            state, parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
        except OSError:
            return False
        if state in "ZX" or parent in ("0", "2"):
            return False
        time.sleep(0.001)
    return False


def find(home: Path, sign: str) -> int | None:
    """The guest's first process: by its pid file, or by looking at all processes."""
    with contextlib.suppress(OSError, ValueError):
        pid = int((home / "pid").read_text())
        if alive(pid, sign):
            return pid
    pids = all_marked(sign)
    return pids[0] if pids else None


def all_marked(sign: str) -> list[int]:
    """All processes with the mark, the oldest first: a guest is several."""
    return sorted(int(p) for p in os.listdir("/proc") if p.isdigit() and alive(int(p), sign))


def start(home: Path, kernel: str, arguments: list[str], sign: str) -> int:
    """A running guest; its console goes to `console.log`. The pid is in `home/pid` before this returns."""
    command = [kernel, *arguments, sign]
    if launch.needs_hiding():
        command = [sys.executable, "-S", "-I", launch.__file__, *command]
    with (home / "console.log").open("ab") as console:
        try:
            child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=console, stderr=console, cwd=home, start_new_session=True
            )
        except OSError as error:
            raise Transient("hypervisor", f"{kernel}: {error}") from error
    part = home / "pid.part"
    part.write_text(f"{child.pid}\n")
    part.rename(home / "pid")
    # It is init's to reap once we are gone, and ours (`reap`) as long as we live.
    child.returncode = 0
    return child.pid


def end(sign: str) -> None:
    """No process of the guest is left. Transient if one won't go."""
    deadline = time.monotonic() + _GONE_S
    while pids := all_marked(sign):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            reap(pid)
        if time.monotonic() > deadline:
            raise Transient("hypervisor", f"process {pids[0]} can't be ended")
        time.sleep(0.01)


def reap(pid: int) -> None:
    """Collect it if it is a dead child of ours."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def sync(home: Path) -> None:
    """Ask the guest's kernel to write its disks; it has no power button. Waits for the answer a second."""
    request = b"sysrq s"
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(b"")  # an abstract address of its own, for the answer
        sock.settimeout(1.0)
        header = struct.pack("<III", _MAGIC, _VERSION, len(request))
        sock.sendto(header + request.ljust(_LENGTH, b"\0"), str(home / "uml" / "kn" / "mconsole"))
        sock.recv(4096)
