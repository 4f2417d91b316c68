"""Debian's package installer, run without a person: no questions, and patient with its locks.

What always holds: a lock held by someone else (an unattended upgrade, say) is waited for, up to LOCK_WAIT; a
failure shows the installer's own last lines. Must be root. Standard library only.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence

from kilonova.cli.errors import MissingPackagesError
from kilonova.cli.progress import Phase

LOCK_WAIT = 600
# No dialogue, no service restarts of other people's daemons, no change lists to read.
QUIET = {
    "DEBIAN_FRONTEND": "noninteractive",
    "NEEDRESTART_SUSPEND": "1",
    "APT_LISTCHANGES_FRONTEND": "none",
    "LC_ALL": "C.UTF-8",
}
OPTIONS = (
    "-q",
    "-y",
    "-o", f"DPkg::Lock::Timeout={LOCK_WAIT}",
    # A bare root file system has no /dev/pts: packages' scripts then fail on the terminal that apt would make.
    "-o", "Dpkg::Use-Pty=0",
    "-o", "Dpkg::Options::=--force-confold",
)  # fmt: skip


def run(words: Sequence[str], phase: Phase) -> tuple[int, str]:
    """Run `apt-get words`, showing its progress; return its exit code and all that it printed."""
    command = ["apt-get", *OPTIONS, "-o", "APT::Status-Fd=1", *words]
    printed: list[str] = []
    with subprocess.Popen(
        command,
        env={**os.environ, **QUIET},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as child:
        assert child.stdout is not None
        for line in child.stdout:
            kind, *fields = line.rstrip("\n").split(":", 3)
            if kind in ("dlstatus", "pmstatus") and len(fields) == 3:
                # A download and the unpacking after it count to 100 each.
                share = int(float(fields[1])) // 2 + (50 if kind == "pmstatus" else 0)
                phase.step(share, 100, fields[2])
            elif kind not in ("pmerror", "pmconffile", "media-change"):
                printed.append(line)
    return child.returncode, "".join(printed)


def patiently(words: Sequence[str], phase: Phase) -> tuple[int, str]:
    """Run `apt-get words`; while another process holds the lists' lock (no option waits for it), repeat."""
    deadline = time.monotonic() + LOCK_WAIT
    while True:
        code, printed = run(words, phase)
        if code == 0 or "Could not get lock" not in printed or time.monotonic() > deadline:
            return code, printed
        time.sleep(1)


def install(packages: Sequence[str]) -> None:
    """Install `packages` without their recommendations. Raises MissingPackagesError with apt's last lines."""
    words = ["install", "--no-install-recommends", *packages]
    with Phase("Refreshing the package lists") as phase:
        patiently(["update"], phase)
    with Phase("Installing operating-system packages") as phase:
        code, printed = patiently(words, phase)
        if code != 0:
            last = "\n  ".join(printed.strip().splitlines()[-6:])
            raise MissingPackagesError(f"apt-get {' '.join(words)} failed:\n  {last}")
