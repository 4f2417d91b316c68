"""Who may say what: the one table that every receiver checks, whatever the broker lets through.

Hosts report and ask only as hosts they are enrolled for; each ask names the roles it answers
(`Bus.answer`); only conductors command hosts; hosts neither wake nor fan out. The role is the enrolled one, never what
an envelope claims.
"""

from __future__ import annotations

from kilonova.bus.api import matches
from kilonova.bus.envelope import Envelope, Kind

SAY: dict[Kind, frozenset[str]] = {
    Kind.HELLO: frozenset(("api", "conductor", "host", "scheduler", "metadata", "console")),
    Kind.WAKE: frozenset(("api", "conductor", "scheduler", "metadata", "console")),
    Kind.FANOUT: frozenset(("api", "conductor", "scheduler")),
    Kind.CALL: frozenset(("conductor",)),
    Kind.ASK: frozenset(("host", "api", "metadata", "console")),
    Kind.REPORT: frozenset(("host",)),
    Kind.ACCEPTED: frozenset(("host",)),
    Kind.RESULT: frozenset(("host",)),
    Kind.ANSWER: frozenset(("conductor",)),
    Kind.ACK: frozenset(("conductor",)),
    Kind.ERROR: frozenset(("conductor", "host")),
}

SPEAKERS = frozenset((Kind.ASK, Kind.REPORT))
"""Kinds that are said as a host: the process must be enrolled for the name."""


def allowed(envelope: Envelope, role: str, speaks_for: tuple[str, ...]) -> bool:
    """Tell whether a sender enrolled with `role` and `speaks_for` may say this."""
    if role != envelope.role or role not in SAY[envelope.kind]:
        return False
    if envelope.kind in SPEAKERS:
        return envelope.speaker == envelope.sender or matches(envelope.speaker, speaks_for)
    return True
