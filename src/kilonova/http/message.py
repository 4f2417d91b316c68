"""A request as a handler sees it, and its answer.

Headers are latin-1 text with lower-case names. A body is read once, within its limit; streams are
passed through in pieces.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from kilonova.http.errors import BadRequest, TooLarge, UnsupportedMedia
from kilonova.model.credentials import Credentials

MAX_JSON = 1 << 20
_MAX_DEPTH = 64

Receive = Callable[[], Awaitable[dict[str, Any]]]
_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


class Disconnected(Exception):
    """The client went away while its body was read."""


def _too_deep(body: bytes) -> bool:
    """Whether brackets nest deeper than any API body does (strings are not parsed: a cheap upper bound)."""
    if body.count(b"[") + body.count(b"{") <= _MAX_DEPTH:
        return False
    depth = 0
    in_string = escaped = False
    for byte in body:
        if in_string:
            if escaped:
                escaped = False
            elif byte == 0x5C:
                escaped = True
            elif byte == 0x22:
                in_string = False
        elif byte == 0x22:
            in_string = True
        elif byte in (0x5B, 0x7B):
            depth += 1
            if depth > _MAX_DEPTH:
                return True
        elif byte in (0x5D, 0x7D):
            depth -= 1
    return False


def _holds_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\x00" in value
    if isinstance(value, dict):
        return any("\x00" in key or _holds_nul(each) for key, each in value.items())
    return isinstance(value, list) and any(map(_holds_nul, value))


class Request:
    """One HTTP request."""

    __slots__ = (
        "_body", "_query", "_receive", "client", "creds", "headers", "method", "mount", "params", "path",
        "query_string", "request_id", "route", "scheme", "state", "version",
    )  # fmt: skip

    def __init__(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        query_string: bytes = b"",
        receive: Receive | None = None,
        *,
        request_id: str = "",
        client: str = "",
        scheme: str = "http",
    ) -> None:
        self.method, self.path, self.headers = method, path, headers
        self.query_string, self.request_id, self.client, self.scheme = query_string, request_id, client, scheme
        self.params: dict[str, str] = {}
        """Path parameters by name."""
        self.mount = ""
        """The prefix the face is mounted at, e.g. ``/compute``; links are made with it."""
        self.route = ""
        """The route's template, for metrics."""
        self.creds: Credentials | None = None
        self.version: Any = None
        """The microversion in force, where the face has them."""
        self.state: dict[str, Any] = {}
        self._receive = receive
        self._body: bytes | None = None
        self._query: list[tuple[str, str]] | None = None

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.path} {self.request_id}>"

    @property
    def credentials(self) -> Credentials:
        """Who asks; only behind authentication."""
        assert self.creds is not None
        return self.creds

    @property
    def query(self) -> list[tuple[str, str]]:
        """Query parameters in order, repeated as sent, blank values kept."""
        if self._query is None:
            try:
                self._query = parse_qsl(
                    self.query_string.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=500
                )
            except ValueError:
                raise BadRequest("The query string is not valid UTF-8 in percent encoding.") from None
        return self._query

    def query_one(self, name: str) -> str | None:
        """The last value of a query parameter."""
        value = None
        for key, each in self.query:
            if key == name:
                value = each
        return value

    @property
    def host_url(self) -> str:
        """``http://host:port`` as the client addressed us."""
        return f"{self.scheme}://{self.headers.get('host', 'localhost')}"

    async def stream(self) -> AsyncIterator[bytes]:
        """The body in pieces as they arrive."""
        if self._body is not None:
            yield self._body
            return
        assert self._receive is not None
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise Disconnected
            piece: bytes = message.get("body", b"")
            if piece:
                yield piece
            if not message.get("more_body"):
                return

    async def disconnected(self) -> None:
        """Return when the client is gone; for handlers that stream and read no body."""
        if self._receive is None:
            return
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def body(self, limit: int = MAX_JSON) -> bytes:
        """The whole body; TooLarge beyond `limit` bytes."""
        if self._body is None:
            length = self.headers.get("content-length", "")
            if length.isdigit() and int(length) > limit:
                raise TooLarge(f"Request is too large: at most {limit} bytes are taken.")
            pieces, size = [], 0
            async for piece in self.stream():
                size += len(piece)
                if size > limit:
                    raise TooLarge(f"Request is too large: at most {limit} bytes are taken.")
                pieces.append(piece)
            self._body = b"".join(pieces)
        return self._body

    @property
    def media(self) -> str:
        """The body's media type in lower case without parameters; "" when not said."""
        return self.headers.get("content-type", "").split(";", 1)[0].strip().lower()

    async def json(self, limit: int = MAX_JSON, media: str = "application/json") -> Any:
        """The body as JSON; BadRequest when it is none, UnsupportedMedia when it claims not to be `media`."""
        kind = self.media or media
        if kind != media:
            raise UnsupportedMedia(f"Unsupported Content-Type: {kind[:100]}. Send {media}.")
        body = await self.body(limit)
        if not body:
            raise BadRequest("Malformed request body: the body is empty; a JSON object is required.")
        if _too_deep(body):
            raise BadRequest("Malformed request body: it is nested too deeply.")
        try:
            value = _decode(body)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            raise BadRequest("Malformed request body: it is not valid JSON.") from None
        if b"\\u0000" in body and _holds_nul(value):
            raise BadRequest("Malformed request body: it holds a NUL character.")
        return value


class Response:
    """An answer: a body, or a stream of pieces."""

    __slots__ = ("body", "headers", "status", "stream")

    def __init__(
        self,
        status: int = 200,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
        stream: AsyncIterator[bytes] | None = None,
        media: str = "",
    ) -> None:
        self.status, self.body, self.stream = status, body, stream
        self.headers = headers if headers is not None else {}
        if media:
            self.headers["content-type"] = media

    def __repr__(self) -> str:
        return f"<Response {self.status}>"


def json_response(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """An answer with a JSON body; `value` is what msgspec encodes, Struct and Raw included."""
    return Response(status, _encode(value), headers, media="application/json")


def empty(status: int = 204, headers: dict[str, str] | None = None) -> Response:
    """An answer without a body."""
    return Response(status, b"", headers)
