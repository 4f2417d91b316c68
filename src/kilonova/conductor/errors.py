"""What steps and operations raise.

::

    StepError
    +-- Refused       definite; a story may catch it; the same on replay
    +-- Transient     nothing happened, the same key again later
    +-- UnknownEffect it may have happened: the same key again
    Lost              this process no longer owns the operation: drop it silently
    ReplayMismatch    the story asks for something else than is recorded: stop here, alarm
"""

from __future__ import annotations


class StepError(Exception):
    """Base of a step's failures."""

    def __init__(self, message: str, code: str = "refused", details: str = "") -> None:
        """`message` is for the server's owner, `details` for admins."""
        super().__init__(message)
        self.message, self.code, self.details = message, code, details


class Refused(StepError):
    """The step was refused for good, or its budget is spent."""


class Transient(StepError):
    """The step had no effect; it may work later."""


class UnknownEffect(StepError):
    """Nobody knows whether the step had its effect."""


class Lost(Exception):
    """Another owner, or a superseding operation, has this operation now."""


class ReplayMismatch(Exception):
    """A story and its journal disagree."""
