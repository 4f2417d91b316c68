"""Ids for requests: uuids from random bytes that are fetched for many at once (a system call each costs more than
the rest of the id).

What holds: every id is a version 4 uuid of the system's own randomness, and is given once. A process that forks
must not serve requests in both halves; none of ours does.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

_AT_ONCE = 256


def _ids() -> Iterator[str]:
    while True:
        drawn = os.urandom(16 * _AT_ONCE).hex()
        for at in range(0, len(drawn), 32):
            text = drawn[at : at + 32]
            variant = "89ab"[int(text[16], 16) & 3]
            yield f"req-{text[:8]}-{text[8:12]}-4{text[13:16]}-{variant}{text[17:20]}-{text[20:]}"


new_request_id = _ids().__next__
"""``req-`` and a uuid."""
