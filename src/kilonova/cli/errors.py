"""How a command ends when it can't do what was asked: one clear line and an exit code, never a traceback.

Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 the operating system lacks something, 130 Ctrl-C.
"""

from __future__ import annotations


class CliError(Exception):
    """Ends the command; `str(error)` is the line that the user reads."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code


class MissingPackagesError(CliError):
    """The operating system lacks packages that this user can't, or may not, install from here."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code=3)
