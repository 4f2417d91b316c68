"""Pages of lists: `limit` and `marker`, as every resource has them."""

from __future__ import annotations

from kilonova.http.errors import BadRequest


def page_size(limit: str | None, most: int) -> int:
    """How many items to show: what was asked for, at most `most`; 0 shows none."""
    if limit is None:
        return most
    if not limit.isascii() or not limit.isdigit():
        raise BadRequest(f"limit param must be an integer, not {limit[:50]!r}")
    return min(int(limit[:20]), most)
