"""Tokens of our own account without a password: for a process that is the identity service itself.

The same shape as `KeystoneSession.service_token`, so a client of a real neighbour needs not know which it has.
"""

from __future__ import annotations

from kilonova.identity.issue import Proof, Scope, issue
from kilonova.identity.records import DEFAULT_DOMAIN, Project, User
from kilonova.identity.service import Identity
from kilonova.identity.verdict import Refused

_EARLY_US = 120 * 1_000_000


class OwnToken:
    """``await OwnToken(identity).service_token()``."""

    def __init__(self, identity: Identity, user: str = "nova", project: str = "service") -> None:
        self._identity, self._user, self._project = identity, user, project
        self._token = ""
        self._ends_us = 0

    def __repr__(self) -> str:
        return f"OwnToken({self._user!r} on {self._project!r})"

    def forget(self, token: str) -> None:
        """`token` was refused somewhere: the next caller gets a new one."""
        if token == self._token:
            self._ends_us = 0

    async def service_token(self) -> str:
        """A token good for two minutes at least. Raises LookupError when the account is gone or disabled."""
        identity = self._identity
        now = identity.directory.clock()
        if now >= self._ends_us - _EARLY_US:
            state = await identity.directory.fresh()
            user = state.named(User, self._user, DEFAULT_DOMAIN)
            project = state.named(Project, self._project, DEFAULT_DOMAIN)
            if user is None or project is None:
                raise LookupError(f"there is no account {self._user} on {self._project}")
            try:
                made = issue(state, Proof(user, ("password",)), Scope("project", project.id), now, identity.validity_us)
            except Refused as error:
                raise LookupError(f"{self._user} cannot log in: {error}") from None
            self._token, self._ends_us = identity.codec.seal(made.token), made.token.expires_at
        return self._token
