"""What policy refuses.

PolicyError
  PolicyForbidden   the caller may not do this (403; never worth a retry)
  PolicyFileError   the operator's file cannot be used (stops the start, names file and rule)
  UnknownRule       code asked for a rule that nobody declared (a bug: 500)
"""

from __future__ import annotations


class PolicyError(Exception):
    """Base of everything this room raises."""


class PolicyForbidden(PolicyError):
    """The caller may not do this. The text is the one Nova puts on the wire."""

    def __init__(self, rule: str) -> None:
        super().__init__(f"Policy doesn't allow {rule} to be performed.")
        self.rule = rule


class PolicyFileError(PolicyError):
    """An operator's policy file is unusable; the text says where and what to do."""


class UnknownRule(PolicyError):
    """A rule name that is neither a default nor in the operator's file."""

    def __init__(self, rule: str) -> None:
        super().__init__(f"policy rule {rule!r} is not declared")
        self.rule = rule
