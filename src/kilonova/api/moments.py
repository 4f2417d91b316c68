"""Times as the API spells them, from microseconds UTC."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache


@lru_cache(maxsize=8192)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def zulu(micros: int) -> str:
    """``2026-11-22T09:31:22Z``."""
    return _second(micros // 1_000_000) + "Z"


def plain(micros: int | None) -> str | None:
    """``2026-11-22T09:31:22.000000`` without a zone, as older fields have it."""
    if micros is None:
        return None
    return f"{_second(micros // 1_000_000)}.{micros % 1_000_000:06d}"
