"""What the conductor sees of the scheduler."""

from __future__ import annotations

from typing import Protocol

from kilonova.model.scheduling import Choice, Request


class SchedulerPort(Protocol):
    """Chooses places; the caller claims them and says when a claim was refused."""

    async def choose(self, request: Request) -> Choice:
        """Places for all servers of the request, held for 10 s, or none with the reason. Asking again is harmless."""

    def refused(self, servers: tuple[str, ...]) -> None:
        """The claims for these servers were refused or will not be made: give the held places back."""
