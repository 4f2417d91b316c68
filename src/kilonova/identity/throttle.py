"""How often somebody may be wrong: buckets of failed log-ins per user and address, per address, per user.

A bucket holds a number of failures and drains at a rate. One that is full refuses before a password is
looked at, for known and unknown users alike. A user under attack from elsewhere still gets in from an
address that has been right for that user before. Memory is bounded: the longest untouched buckets go first.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

_MOST = 20_000


class Rate(NamedTuple):
    """So many failures at once, then one every `every_s` seconds."""

    burst: int
    every_s: float


PAIR, ADDRESS, USER = Rate(10, 6.0), Rate(60, 1.0), Rate(100, 2.0)


class Throttle:
    """Failures of one process."""

    def __init__(
        self, pair: Rate = PAIR, address: Rate = ADDRESS, user: Rate = USER, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rates = {"pair": pair, "address": address, "user": user}
        self._clock = clock
        self._levels: OrderedDict[tuple[str, ...], tuple[float, float]] = OrderedDict()
        self._trusted: OrderedDict[tuple[str, str], None] = OrderedDict()

    def _level(self, key: tuple[str, ...]) -> float:
        level, at = self._levels.get(key, (0.0, 0.0))
        return max(0.0, level - (self._clock() - at) / self._rates[key[0]].every_s)

    def wait_s(self, user: str, address: str) -> int:
        """Seconds until this user may try again from this address; 0 = now."""
        keys = [("pair", user, address), ("address", address)]
        if (user, address) not in self._trusted:
            keys.append(("user", user))
        wait = 0.0
        for key in keys:
            rate = self._rates[key[0]]
            over = self._level(key) - rate.burst + 1
            wait = max(wait, over * rate.every_s)
        return -int(-wait // 1) if wait > 0 else 0

    def failed(self, user: str, address: str) -> None:
        """Count a failure."""
        now = self._clock()
        for key in (("pair", user, address), ("address", address), ("user", user)):
            self._levels[key] = (self._level(key) + 1, now)
            self._levels.move_to_end(key)
        while len(self._levels) > _MOST:
            self._levels.popitem(last=False)

    def succeeded(self, user: str, address: str) -> None:
        """Forget the failures of this user from this address."""
        self._levels.pop(("pair", user, address), None)
        self._trusted[user, address] = None
        self._trusted.move_to_end((user, address))
        while len(self._trusted) > _MOST:
            self._trusted.popitem(last=False)
