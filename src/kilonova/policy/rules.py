"""Nova's rules as data: ``rules.json`` holds name, check, token scopes, operations and the older name.

Source: openstack/nova 34, nova/policies (facts). Other rooms declare their own rules the same way and hand
them to the Enforcer.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import msgspec


class RuleDefault(msgspec.Struct, frozen=True):
    """One rule as shipped.

    ``scopes``: token scopes it can be met with, empty for any. ``operations``: ``METHOD path`` pairs it
    guards. ``replaces``: the coarser rule that stood here before and its default check; an operator's file
    that still sets that name is honoured.
    """

    name: str
    check: str
    scopes: tuple[str, ...] = ()
    operations: tuple[str, ...] = ()
    replaces: tuple[str, str] | None = None


@cache
def default_rules() -> tuple[RuleDefault, ...]:
    """Return the Compute API's rules, base rules (``context_is_admin``, ...) first."""
    raw = Path(__file__).with_name("rules.json").read_bytes()
    return msgspec.json.decode(raw, type=tuple[RuleDefault, ...])
