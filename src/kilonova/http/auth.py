"""The port through which every face learns who asks."""

from __future__ import annotations

from typing import Protocol

from kilonova.model.credentials import Credentials


class TokenValidator(Protocol):
    """Turns a bearer token into credentials whose roles are true now."""

    async def validate(self, token: str) -> Credentials:
        """Raises `http.errors.Unauthorized` when the token is unknown, expired or revoked."""
