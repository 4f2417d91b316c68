"""Requests to a real OpenStack service, with a token of our own account.

Always holds: a refused token is renewed once and the request repeated; redirects are not followed; an answer is
bounded. Whatever means "not now" (no connection, no token, 5xx, 429) is `NeighbourAway`; other answers are the
caller's. The HTTP library is imported with the first request.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlencode

import msgspec

if TYPE_CHECKING:
    import aiohttp

PIECE = 1 << 20
_MOST = 16 << 20


Endpoint = str | Callable[[], Awaitable[str]]
"""A service's URL without its version, or who looks it up in the catalog (and may raise)."""


class NeighbourAway(Exception):
    """The service can't answer now: try again."""


class OwnTokens(Protocol):
    """Where tokens of our own account come from."""

    async def service_token(self) -> str:
        """A token good for a while; raises when there is none."""

    def forget(self, token: str) -> None:
        """`token` was refused: the next caller gets a new one."""


class Answer(msgspec.Struct, frozen=True):
    """What the service said."""

    status: int
    body: Any
    """Decoded JSON; None where there is none."""

    def word(self, *path: str) -> str:
        """A text in the body, "" where it is not."""
        found = self.body
        for name in path:
            found = found.get(name) if isinstance(found, dict) else None
        return found if isinstance(found, str) else ""


class Neighbour:
    """``Neighbour("Glance", "http://host/image", tokens)``; close it at the end."""

    def __init__(
        self, name: str, endpoint: Endpoint, tokens: OwnTokens, *, timeout: float = 30.0, tls: Any = True
    ) -> None:
        """`endpoint` without its version; `timeout`: seconds a request; `tls`: an SSLContext, or True for the usual."""
        self.name, self.endpoint = name, endpoint
        self._tokens, self._timeout, self._tls = tokens, timeout, tls
        self._http: aiohttp.ClientSession | None = None

    def __repr__(self) -> str:
        return f"Neighbour({self.name!r}, {self.endpoint!r})"

    async def close(self) -> None:
        if self._http is not None:
            await self._http.close()
            self._http = None

    async def ask(
        self, method: str, path: str, body: Any = None, *, query: Sequence[tuple[str, str]] = ()
    ) -> Answer:
        """One request with JSON in and out. Raises NeighbourAway."""
        data = None if body is None else msgspec.json.encode(body)
        target = f"{path}?{urlencode(query)}" if query else path
        async with self._send(method, target, {"accept": "application/json"}, data) as got:
            raw = b""
            async for piece in got.content.iter_chunked(PIECE):
                raw += piece
                if len(raw) > _MOST:
                    raise NeighbourAway(f"{self.name} answers without end")
            status = got.status
        try:
            return Answer(status, msgspec.json.decode(raw) if raw else None)
        except msgspec.DecodeError:
            return Answer(status, None)

    async def stream(self, path: str) -> AsyncGenerator[int | bytes, None]:
        """GET: yields the status, then, if it is 200, the body in pieces of at most 1 MiB. Raises NeighbourAway."""
        async with self._send("GET", path, {}, None, whole=False) as got:
            yield got.status
            if got.status == 200:
                async for piece in got.content.iter_chunked(PIECE):
                    yield piece

    @asynccontextmanager
    async def _send(
        self, method: str, target: str, headers: Mapping[str, str], data: bytes | None, whole: bool = True
    ) -> AsyncGenerator[aiohttp.ClientResponse, None]:
        import aiohttp

        if self._http is None:
            self._http = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=32, ssl=self._tls))
        limits = aiohttp.ClientTimeout(total=self._timeout if whole else None, sock_connect=10, sock_read=self._timeout)
        sent = {**headers, **({"content-type": "application/json"} if data is not None else {})}
        try:
            for last in (False, True):
                token, base = await self._token(), await self._base()
                request = self._http.request(
                    method, base + target, data=data, headers={**sent, "x-auth-token": token},
                    allow_redirects=False, timeout=limits,
                )  # fmt: skip
                async with request as got:
                    if got.status == 401 and not last:
                        self._tokens.forget(token)
                        continue
                    if got.status >= 500 or got.status in (401, 429):
                        raise NeighbourAway(f"{self.name} answers {got.status}")
                    yield got
                    return
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise NeighbourAway(f"{self.name}: {type(error).__name__}: {error}") from error

    async def _token(self) -> str:
        try:
            return await self._tokens.service_token()
        except Exception as error:
            # Whoever gives the token has errors of its own; to us all of them say "not now".
            raise NeighbourAway(f"no token for {self.name}: {error}") from error

    async def _base(self) -> str:
        if isinstance(self.endpoint, str):
            return self.endpoint.rstrip("/")
        try:
            return (await self.endpoint()).rstrip("/")
        except Exception as error:
            # As for tokens: it can't be found now.
            raise NeighbourAway(f"{self.name} cannot be found: {error}") from error
