"""The one error of this room, apart so that every file may raise it.

A message is one line a person can act on; details of a failed tool follow after a colon.
"""

from __future__ import annotations


class BuildError(Exception):
    """The image cannot be built here: a missing package, tool, or an unsupported machine."""
