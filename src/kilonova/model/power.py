"""Power states as the hypervisor reports them (integers of the Compute API)."""

from __future__ import annotations

from enum import IntEnum


class PowerState(IntEnum):
    """`OS-EXT-STS:power_state`; 2 and 5 are unused and never re-used."""

    NOSTATE = 0
    RUNNING = 1
    PAUSED = 3
    SHUTDOWN = 4
    CRASHED = 6
    SUSPENDED = 7
