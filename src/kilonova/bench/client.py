"""A small HTTP/1.1 client for measuring: one connection that is kept, and the event stream.

It costs a tenth of a general client, so that on two cores the server is what is measured. Understands
what the server of this package sends: Content-Length, and chunks on streams.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import msgspec

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


class HttpFailure(Exception):
    """An answer that a benchmark cannot use."""


class _Wire(asyncio.Protocol):
    """Collects one answer at a time."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self.answer: asyncio.Future[tuple[int, bytes, bytes]] | None = None
        self._got = bytearray()
        self._need = -1
        self._head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance

    def data_received(self, data: bytes) -> None:
        self._got += data
        if self._need < 0:
            end = self._got.find(b"\r\n\r\n")
            if end < 0:
                return
            self._head = bytes(self._got[:end])
            at = self._head.lower().find(b"content-length:")
            self._need = int(self._head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            del self._got[: end + 4]
        if len(self._got) >= self._need and self.answer is not None and not self.answer.done():
            body = bytes(self._got[: self._need])
            del self._got[: self._need]
            self._need = -1
            self.answer.set_result((int(self._head[9:12]), self._head, body))

    def connection_lost(self, exc: Exception | None) -> None:
        if self.answer is not None and not self.answer.done():
            self.answer.set_exception(exc or ConnectionResetError("the server closed the connection"))


class Connection:
    """One kept connection of one user; requests one after the other."""

    def __init__(self, host: str, port: int, token: str = "", version: str = "2.104") -> None:
        self._host, self._port = host, port
        self._fixed = f"Host: {host}:{port}\r\n"
        if token:
            self._fixed += f"X-Auth-Token: {token}\r\nOpenStack-API-Version: compute {version}\r\n"
        self._wire: _Wire | None = None

    async def send(self, method: str, path: str, body: Any = None) -> tuple[int, bytes, bytes]:
        """(status, head, body)."""
        loop = asyncio.get_running_loop()
        if self._wire is None or self._wire.transport.is_closing():
            _, self._wire = await loop.create_connection(_Wire, self._host, self._port)
        wire = self._wire
        content = b"" if body is None else _encode(body)
        more = f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n" if content else ""
        wire.answer = loop.create_future()
        wire.transport.write(f"{method} {path} HTTP/1.1\r\n{self._fixed}{more}\r\n".encode() + content)
        return await wire.answer

    async def json(self, method: str, path: str, body: Any = None) -> Any:
        """The answer's JSON, None without a body; raises HttpFailure unless it is a success."""
        status, _, content = await self.send(method, path, body)
        if status >= 300:
            raise HttpFailure(f"{method} {path}: {status} {content[:300]!r}")
        return _decode(content) if content else None

    def close(self) -> None:
        if self._wire is not None:
            self._wire.transport.close()
            self._wire = None


class Events:
    """A project's event stream: who became what, and waiting for it."""

    def __init__(self, host: str, port: int, token: str) -> None:
        self._host, self._port, self._token = host, port, token
        self._waiting: dict[tuple[str, str], asyncio.Future[None]] = {}
        self._seen: set[tuple[str, str]] = set()
        self._task: asyncio.Task[None] | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def __aenter__(self) -> Events:
        reader, self._writer = await asyncio.open_connection(self._host, self._port)
        head = f"Host: {self._host}\r\nX-Auth-Token: {self._token}\r\n\r\n"
        self._writer.write(f"GET /compute/v2.1/kilonova/events HTTP/1.1\r\n{head}".encode())
        status = await reader.readline()
        if b" 200 " not in status:
            raise HttpFailure(f"event stream: {status!r}")
        async for line in _lines(reader):
            if line.startswith(b": connected"):
                break
        self._task = asyncio.get_running_loop().create_task(self._follow(reader))
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        if self._writer is not None:
            self._writer.close()

    async def _follow(self, reader: asyncio.StreamReader) -> None:
        async for line in _lines(reader):
            if not line.startswith(b"data: "):
                continue
            told = _decode(line[6:])
            state = told.get("state") or {}
            settled = state.get("task_state") is None
            key = (told.get("id", ""), state.get("vm_state", "") if settled else "")
            self._seen.add(key)
            waiter = self._waiting.pop(key, None)
            if waiter is not None and not waiter.done():
                waiter.set_result(None)

    async def until(self, server: str, state: str, seconds: float = 30.0) -> None:
        """Return once the stream told that `server` settled in `state`."""
        key = (server, state)
        if key in self._seen:
            return
        waiter = self._waiting[key] = asyncio.get_running_loop().create_future()
        async with asyncio.timeout(seconds):
            await waiter


async def _lines(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while line := await reader.readline():
        yield line


async def login(host: str, port: int, auth: dict[str, str]) -> str:
    """A token for an `auth` section of clouds.yaml."""
    domain = {"name": auth.get("user_domain_name", "Default")}
    user = {"name": auth["username"], "password": auth["password"], "domain": domain}
    body = {
        "auth": {
            "identity": {"methods": ["password"], "password": {"user": user}},
            "scope": {"project": {"name": auth["project_name"], "domain": domain}},
        }
    }
    connection = Connection(host, port)
    status, head, content = await connection.send("POST", "/identity/v3/auth/tokens", body)
    connection.close()
    if status != 201:
        raise HttpFailure(f"log-in: {status} {content[:300]!r}")
    at = head.lower().index(b"x-subject-token:") + 16
    return head[at:].split(b"\r\n", 1)[0].strip().decode("ascii")
