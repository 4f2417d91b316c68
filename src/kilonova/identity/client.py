"""`TokenValidator` over a real Keystone.

Keystone is asked about a token at most once in `keep_s`, so what is revoked or disabled there acts here
within that time. An answer is never used longer when Keystone is away: then it is a 503.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from typing import Any

from kilonova.http.errors import Unauthorized, Unavailable
from kilonova.identity.session import Answer, KeystoneRefused, KeystoneSession, KeystoneUnavailable
from kilonova.identity.timestamps import parsed
from kilonova.identity.validator import REFUSAL
from kilonova.log import get_logger
from kilonova.model.credentials import Credentials

log = get_logger(__name__)
_MOST = 10_000
_COMPLAIN_S = 30.0


class KeystoneValidator:
    """Validates tokens at Keystone with our own account's token."""

    def __init__(self, session: KeystoneSession, keep_s: float = 1.0) -> None:
        """`keep_s`: how long an answer counts, in seconds."""
        self.session, self.keep_s = session, keep_s
        self._seen: dict[str, tuple[float, Credentials | None]] = {}
        self._complained = -_COMPLAIN_S
        self._asking: dict[str, asyncio.Task[Credentials | None]] = {}

    def __repr__(self) -> str:
        return f"KeystoneValidator({self.session!r})"

    async def close(self) -> None:
        """End what is under way. The session is its owner's to close."""
        for task in tuple(self._asking.values()):
            task.cancel()
        await asyncio.gather(*self._asking.values(), return_exceptions=True)

    async def validate(self, token: str) -> Credentials:
        """Raises http `Unauthorized`, `Unavailable`."""
        if not 0 < len(token) <= 16_384 or not token.isascii() or not token.isprintable():
            raise Unauthorized(REFUSAL)
        seen = self._seen.get(token)
        if seen is not None and time.monotonic() - seen[0] < self.keep_s:
            creds = seen[1]
        else:
            creds = await self._ask_once(token)
        if creds is None or creds.expired(time.time_ns() // 1000):
            raise Unauthorized(REFUSAL)
        return creds

    async def _ask_once(self, token: str) -> Credentials | None:
        """However many requests carry the token, Keystone is asked once; who gives up does not stop the others."""
        task = self._asking.get(token)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._ask(token), name="keystone-validate")
            self._asking[token] = task
            task.add_done_callback(lambda done: self._answered(token, done))
        try:
            return await asyncio.shield(task)
        except (KeystoneUnavailable, KeystoneRefused) as error:
            raise Unavailable(f"The identity service cannot be asked: {type(error).__name__}; try again.") from None

    def _answered(self, token: str, task: asyncio.Task[Credentials | None]) -> None:
        self._asking.pop(token, None)
        if not task.cancelled():
            task.exception()  # looked at, also when everybody who waited has gone

    async def _ask(self, token: str) -> Credentials | None:
        asked = time.monotonic()
        own = await self.session.service_token()
        answer = await self._get(own, token)
        if answer.status == 401:  # ours has ended before its time
            self.session.forget(own)
            answer = await self._get(await self.session.service_token(), token)
        if answer.status == 200:
            creds = credentials(answer.body, token)
        elif answer.status == 404:
            creds = None
        else:
            why = f"{self.session.url} answers {answer.status} when our account asks about a token"
            self._complain(why)
            raise KeystoneRefused(why)
        if len(self._seen) >= _MOST:
            self._forget_old()
        self._seen[token] = (asked, creds)
        return creds

    async def _get(self, own: str, token: str) -> Answer:
        headers = {"x-auth-token": own, "x-subject-token": token}
        return await self.session.ask("GET", "/auth/tokens?nocatalog", headers)

    def _complain(self, why: str) -> None:
        """Whoever runs this cloud must hear of it, but not once a request."""
        now = time.monotonic()
        if now - self._complained >= _COMPLAIN_S:
            self._complained = now
            log.error("%s: it needs the role admin or service", why)

    def _forget_old(self) -> None:
        before = time.monotonic() - self.keep_s
        for token in [token for token, (at, _) in self._seen.items() if at < before]:
            del self._seen[token]
        if len(self._seen) >= _MOST:
            self._seen.clear()


def credentials(body: Any, text: str) -> Credentials:
    """Credentials from Keystone's token document. Raises KeystoneUnavailable when it is none."""
    try:
        token = body["token"]
        user, project = token["user"], token.get("project")
        audit = token.get("audit_ids") or [None]
        return Credentials.make(
            user["id"],
            [role["name"] for role in token.get("roles", ())],
            user_name=user.get("name"),
            user_domain_id=user["domain"]["id"],
            project_id=project["id"] if project else None,
            project_name=project["name"] if project else None,
            project_domain_id=project["domain"]["id"] if project else None,
            domain_id=token["domain"]["id"] if token.get("domain") else None,
            system_scope="all" if token.get("system", {}).get("all") else None,
            token_id=hashlib.sha256(text.encode()).hexdigest()[:32],
            audit_id=audit[0],
            expires_at=parsed(token["expires_at"]) or 1,
            method=token["methods"][0],
            is_admin_project=token.get("is_admin_project", True),
        )
    except (TypeError, KeyError, IndexError, AttributeError) as error:
        raise KeystoneUnavailable("Keystone's answer is no token document") from error
