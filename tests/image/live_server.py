"""An ASGI application behind a real socket, in the test's loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()


@asynccontextmanager
async def serving(app: Any) -> AsyncIterator[str]:
    """``http://127.0.0.1:PORT`` where `app` answers."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    server = _Server(
        uvicorn.Config(app, log_level="error", lifespan="off", http="httptools", access_log=False, timeout_keep_alive=1)
    )
    async with asyncio.TaskGroup() as group:
        task = group.create_task(server._serve(sockets=[sock]))
        async with asyncio.timeout(10):
            await server.up.wait()
        try:
            yield f"http://127.0.0.1:{sock.getsockname()[1]}"
        finally:
            server.should_exit = server.force_exit = True
            await task
