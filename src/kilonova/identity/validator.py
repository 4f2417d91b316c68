"""`TokenValidator` of the embedded identity service: a token looked at in memory.

A token is decrypted once and judged once for each version of the identity data; after that a request
costs a look into a table. What it may do is never older than `directory.STALE_S`.
"""

from __future__ import annotations

import time

from kilonova.db.errors import DatabaseError
from kilonova.http.errors import Unauthorized, Unavailable
from kilonova.identity.directory import STALE_S, Directory
from kilonova.identity.tokens import InvalidToken, Token, TokenCodec
from kilonova.identity.verdict import Refused, Verdict, credentials, judge
from kilonova.log import get_logger
from kilonova.model.credentials import Credentials

log = get_logger(__name__)
REFUSAL = "The request you have made requires authentication."
_MOST = 10_000


class EmbeddedIdentity:
    """Validates our own tokens."""

    def __init__(self, directory: Directory, codec: TokenCodec) -> None:
        self.directory, self.codec = directory, codec
        self._seen: dict[str, tuple[object, int, int, Credentials]] = {}
        """Token -> (State, its version, when it ends, credentials)."""

    def __repr__(self) -> str:
        return f"EmbeddedIdentity({self.directory!r})"

    async def validate(self, token: str) -> Credentials:
        """Raises http `Unauthorized`; `Unavailable` when the roles of now cannot be known."""
        directory = self.directory
        seen = self._seen.get(token)
        if (
            seen is not None
            and time.monotonic() - directory.fresh_at < STALE_S
            and seen[1] == directory.state.version
            and seen[0] is directory.state
            and time.time_ns() < seen[2]
        ):
            return seen[3]
        verdict = await self.judge(token)
        creds = credentials(verdict, token)
        if len(self._seen) >= _MOST:
            del self._seen[next(iter(self._seen))]
        ends = verdict.token.expires_at
        if verdict.appcred is not None and verdict.appcred.expires_at is not None:
            ends = min(ends, verdict.appcred.expires_at)
        self._seen[token] = (directory.state, directory.state.version, ends * 1000, creds)
        return creds

    async def judge(self, text: str, *, allow_expired: bool = False) -> Verdict:
        """What a token means now. Raises as `validate`."""
        try:
            token: Token = self.codec.open(text)
            state = await self.directory.fresh()
            return judge(state, token, self.directory.clock(), allow_expired=allow_expired)
        except (InvalidToken, Refused) as error:
            log.debug("a token was refused: %s", error)
            raise Unauthorized(REFUSAL) from None
        except DatabaseError as error:
            log.warning("a token cannot be checked: %s", error)
            raise Unavailable("The identity data cannot be read; try again.") from None
