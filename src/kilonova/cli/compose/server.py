"""The HTTP server of a process: one socket, bound before anything slow starts, and an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn

from kilonova.cli.errors import CliError
from kilonova.http.app import HttpApp

_BACKLOG = 2048


def bind(host: str, port: int) -> socket.socket:
    """A listening socket. Raises CliError in words when the address cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named TCP, or asyncio leaves Nagle's algorithm on for what is accepted: 40 ms an answer in two pieces.
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        sock.listen(_BACKLOG)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise CliError(f"port {port} on {host} is in use; choose another with --port") from None
        raise CliError(f"cannot listen on {host} port {port}: {error.strerror}") from None
    sock.setblocking(False)
    return sock


class _Server(uvicorn.Server):
    """Signals are the composer's, not the server's; says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class HttpServer:
    """Serves `app` on `sock` until `stop`."""

    def __init__(self, app: HttpApp, sock: socket.socket, *, tls_cert: str | None = None, tls_key: str | None = None):
        options: dict[str, Any] = {}
        if tls_cert:
            options = {"ssl_certfile": tls_cert, "ssl_keyfile": tls_key}
        config = uvicorn.Config(
            app, http="httptools", ws="none", lifespan="off", log_config=None, access_log=False,
            timeout_keep_alive=75, timeout_graceful_shutdown=3, backlog=_BACKLOG, server_header=False,
            date_header=True, proxy_headers=False, h11_max_incomplete_event_size=65536, **options,
        )  # fmt: skip
        self._app, self._sock = app, sock
        self._server = _Server(config)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Answer from now on."""
        self._task = asyncio.get_running_loop().create_task(self._server.serve([self._sock]), name="http")
        listening = asyncio.get_running_loop().create_task(self._server.listening.wait())
        await asyncio.wait((self._task, listening), return_when=asyncio.FIRST_COMPLETED)
        if not listening.done():
            listening.cancel()
            await self._task

    async def stop(self) -> None:
        """Let requests end (3 s), end streams, close."""
        self._app.stopping.set()
        self._server.should_exit = True
        if self._task is not None:
            await asyncio.wait([self._task], timeout=6)
        self._sock.close()
