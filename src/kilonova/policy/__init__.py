"""Who may do what: oslo.policy's rule language, compiled once and evaluated in under two microseconds.

An :class:`Enforcer` holds Nova's default rules with an operator's ``policy.yaml`` laid over them. It never
changes after it is made: a changed file means a new Enforcer. This room knows only ``model``; it must not
know HTTP (the caller turns :class:`PolicyForbidden` into a 403) nor where tokens come from.
"""

from kilonova.policy.enforcer import Enforcer
from kilonova.policy.errors import PolicyError, PolicyFileError, PolicyForbidden, UnknownRule
from kilonova.policy.rules import RuleDefault, default_rules

__all__ = [
    "Enforcer",
    "PolicyError",
    "PolicyFileError",
    "PolicyForbidden",
    "RuleDefault",
    "UnknownRule",
    "default_rules",
]
