"""Times as the identity API spells them: ISO 8601 with microseconds and Z."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def spelled(us: int) -> str:
    """``2026-11-22T10:00:00.000000Z`` of microseconds UTC."""
    return (_EPOCH + timedelta(microseconds=us)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parsed(text: str) -> int | None:
    """Microseconds UTC of an ISO 8601 time; without a zone it is UTC. None if it is none."""
    try:
        when = datetime.fromisoformat(text.strip())
        if when.tzinfo is None:
            when = when.replace(tzinfo=UTC)
        return (when - _EPOCH) // timedelta(microseconds=1)
    except (ValueError, OverflowError):
        return None
