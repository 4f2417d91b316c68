"""Debian's package installer, run without a person: no questions, and patient with its locks.

What always holds: a lock held by someone else (an unattended upgrade, say) is waited for, up to LOCK_WAIT; a
failure shows the installer's own last lines. Must be root. Standard library only.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
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
    # We keep the output in a file; and a bare root file system has no /dev/pts to make a terminal in.
    "-o", "Dpkg::Use-Pty=0",
    "-o", "Dpkg::Options::=--force-confold",
)  # fmt: skip


def run(words: Sequence[str], phase: Phase) -> tuple[int, str]:
    """Run `apt-get words`, showing its progress; return its exit code and all that it printed.

    Progress has a pipe of its own: dpkg takes its status descriptor away from packages' scripts, so they'd
    fail to print if that were standard output. The output is a file, as a daemon that a script starts may
    keep it open for ever.
    """
    reading, writing = os.pipe()
    with tempfile.TemporaryFile("w+", errors="replace") as output, open(reading, errors="replace") as progress:
        try:
            child = subprocess.Popen(
                ["apt-get", *OPTIONS, "-o", f"APT::Status-Fd={writing}", *words],
                env={**os.environ, **QUIET},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=(writing,),
            )
        finally:
            os.close(writing)
        with child:
            for line in progress:
                kind, *fields = line.rstrip("\n").split(":", 3)
                if kind in ("dlstatus", "pmstatus") and len(fields) == 3:
                    # A download and the unpacking after it count to 100 each.
                    share = int(float(fields[1])) // 2 + (50 if kind == "pmstatus" else 0)
                    phase.step(share, 100, fields[2])
        output.seek(0)
        return child.returncode, output.read()


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
