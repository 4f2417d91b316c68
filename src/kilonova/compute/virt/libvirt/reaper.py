"""Parent of a libvirtd of ours and of its guests: `python reaper.py COMMAND...` detaches, runs it, reaps.

A guest's QEMU detaches from libvirtd, so whoever is init must reap it when it ends, and until then libvirt
waits to see it gone. In containers init is often something that reaps late or never: deleting a guest then takes
seconds or fails. So the daemon runs below a subreaper that collects at once. Standard library only; ends
with its last child.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_CHILD_SUBREAPER = 36


def main(command: list[str]) -> None:
    if os.fork():
        os._exit(0)
    os.setsid()
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    # Whoever started us reads our output to its end.
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.posix_spawnp(
        command[0], command, os.environ, setsigdef=(signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE)
    )
    while True:
        try:
            os.wait()
        except ChildProcessError:
            return


if __name__ == "__main__":
    main(sys.argv[1:])
