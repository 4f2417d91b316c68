"""The event stream; see `Feed`."""

from __future__ import annotations

from typing import Protocol


class Feed(Protocol):
    """Changes."""
