"""The ASGI application: mounts faces under prefixes, authenticates, renders faults, counts.

Every answer carries `X-OpenStack-Request-Id`. An exception that is no `HttpError` is a bug: it is
logged with its traceback under the request id and answered as a fault without details.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from kilonova.http.errors import HttpError, Unavailable
from kilonova.http.message import Disconnected, Request, Response
from kilonova.http.request_id import new_request_id
from kilonova.log import get_logger

log = get_logger(__name__)
Scope = Mapping[str, Any]
Send = Callable[[dict[str, Any]], Awaitable[None]]
_BODY_S = 60.0


class Face(Protocol):
    """One API under one prefix."""

    name: str

    async def handle(self, request: Request, path: str) -> Response:
        """Answer `path` (what follows the mount, starting with "/" or empty)."""

    def fault(self, request: Request, error: HttpError) -> Response:
        """Render an error in this API's wire format."""


Observe = Callable[[Request, int, float], None]
"""(request, status, seconds)."""
Translate = Callable[[Exception], HttpError | None]
"""Errors of lower rooms (database busy, disk full, a neighbour away) as HTTP faults; None = a bug."""


class HttpApp:
    """``HttpApp({"/compute": face, "/identity": face, "": root})``; the longest prefix wins."""

    def __init__(
        self,
        mounts: Mapping[str, Face],
        *,
        allowed_hosts: frozenset[str] | None = None,
        observe: Observe | None = None,
        translate: Translate | None = None,
    ) -> None:
        """`allowed_hosts`: names the Host header may carry, without port (DNS rebinding); None = any."""
        self._faces = {prefix.strip("/"): face for prefix, face in mounts.items() if prefix.strip("/")}
        self._root = mounts[""]
        self._hosts = allowed_hosts
        self._observe = observe
        self._translate = translate
        self.stopping = asyncio.Event()
        """Set at shutdown: streams end themselves."""

    async def __call__(self, scope: Scope, receive: Any, send: Send) -> None:
        if scope["type"] != "http":
            return
        started = time.perf_counter()
        headers = {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
        path: str = scope["path"]
        client = scope.get("client")
        request = Request(
            scope["method"], path, headers, scope.get("query_string", b""), receive,
            request_id=new_request_id(), client=client[0] if client else "", scheme=scope.get("scheme", "http"),
        )  # fmt: skip
        raw = scope.get("raw_path")
        if raw:
            path = raw.split(b"?", 1)[0].decode("latin-1")
        first, _, rest = path.lstrip("/").partition("/")
        face = self._faces.get(first)
        if face is None:
            face, below = self._root, path
        else:
            request.mount, below = f"/{first}", f"/{rest}" if rest or path.endswith("/") else ""
        try:
            response = await self._answer(face, request, below)
        except Disconnected:
            return
        response.headers.setdefault("x-openstack-request-id", request.request_id)
        await self._send(request, response, send)
        if self._observe is not None:
            self._observe(request, response.status, time.perf_counter() - started)

    async def _answer(self, face: Face, request: Request, below: str) -> Response:
        try:
            if self._hosts is not None:
                host = request.headers.get("host", "").rsplit("@", 1)[-1]
                name = host[: host.find("]") + 1] if host.startswith("[") else host.split(":", 1)[0]
                if name.lower() not in self._hosts:
                    return face.fault(request, _bad_host(name))
            return await face.handle(request, below)
        except HttpError as error:
            return face.fault(request, error)
        except (Disconnected, asyncio.CancelledError):
            raise
        except Exception as error:
            known = self._translate(error) if self._translate is not None else None
            if known is not None:
                return face.fault(request, known)
            log.exception("unexpected error in %s %s %s", request.method, request.route or "?", request.request_id)
            bug = HttpError(f"An unexpected error occurred; it is logged under {request.request_id}.")
            return face.fault(request, bug)

    async def _send(self, request: Request, response: Response, send: Send) -> None:
        headers = [(_name(k), v.encode("latin-1")) for k, v in response.headers.items()]
        if response.stream is None:
            if response.status not in (204, 304) and "content-length" not in response.headers:
                headers.append((b"content-length", str(len(response.body)).encode()))
            await send({"type": "http.response.start", "status": response.status, "headers": headers})
            body = b"" if request.method == "HEAD" else response.body
            await send({"type": "http.response.body", "body": body})
            return
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        try:
            async for piece in response.stream:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        except Exception:
            # The status is out: all we can do is to break the connection, so that nobody takes a part for the whole.
            log.exception("stream of %s broke off (%s)", request.path, request.request_id)
            raise
        await send({"type": "http.response.body", "body": b""})


def _name(text: str) -> bytes:
    """A header's name as it is sent; ours are few and always the same."""
    name = _NAMES.get(text)
    if name is None:
        name = text.encode("latin-1")
        if len(_NAMES) < 256:
            _NAMES[text] = name
    return name


_NAMES: dict[str, bytes] = {}


def _bad_host(name: str) -> HttpError:
    from kilonova.http.errors import BadRequest

    return BadRequest(f"The Host header names {name[:100]!r}, which this cloud does not answer for.")


def overloaded(what: str) -> HttpError:
    """503 with Retry-After for a bounded queue that is full."""
    return Unavailable(f"{what} is overloaded; try again.")
