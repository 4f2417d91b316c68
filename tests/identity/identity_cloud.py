"""Black-box access to the embedded identity service, in process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import uvicorn

from kilonova.db.open import Databases
from kilonova.http.app import HttpApp
from kilonova.identity.bootstrap import bootstrap
from kilonova.identity.face import IdentityFace
from kilonova.identity.service import Identity, open_identity
from kilonova.pools import Pools

URL = "http://cloud.test:8774"
DEMO = {"project": {"name": "demo", "domain": {"id": "default"}}}
ADMIN = {"project": {"name": "admin", "domain": {"id": "default"}}}
SYSTEM = {"system": {"all": True}}


@dataclass
class Cloud:
    """One process of the service and what its first start made."""

    identity: Identity
    client: httpx2.AsyncClient
    passwords: dict[str, str]

    async def ask(self, method: str, path: str, token: str = "", **more: Any) -> httpx2.Response:
        headers = {**({"x-auth-token": token} if token else {}), **more.pop("headers", {})}
        response = await self.client.request(method, f"/identity{path}", headers=headers, **more)
        assert response.status_code < 500 or response.status_code in (501, 503), response.text
        if response.status_code >= 400 and method != "HEAD":
            error = response.json()["error"]
            assert error["code"] == response.status_code and error["message"] and error["title"]
        return response

    async def log_in(self, auth: dict[str, Any], scope: Any = None) -> httpx2.Response:
        body: dict[str, Any] = {"auth": {"identity": auth}}
        if scope is not None:
            body["auth"]["scope"] = scope
        return await self.ask("POST", "/v3/auth/tokens", json=body)

    async def token(self, name: str, scope: Any = None, password: str | None = None) -> str:
        """A token, or AssertionError."""
        response = await self.log_in(by_password(name, password or self.passwords[name]), scope)
        assert response.status_code == 201, response.text
        return str(response.headers["x-subject-token"])

    async def make(self, token: str, path: str, member: str, **fields: Any) -> dict[str, Any]:
        """POST something and return it."""
        response = await self.ask("POST", path, token, json={member: fields})
        assert response.status_code == 201, response.text
        found: dict[str, Any] = response.json()[member]
        return found

    async def role(self, token: str, name: str) -> str:
        response = await self.ask("GET", f"/v3/roles?name={name}", token)
        return str(response.json()["roles"][0]["id"])


def by_password(name: str, password: str, domain: str = "default") -> dict[str, Any]:
    user = {"name": name, "domain": {"id": domain}, "password": password}
    return {"methods": ["password"], "password": {"user": user}}


def by_token(token: str) -> dict[str, Any]:
    return {"methods": ["token"], "token": {"id": token}}


@asynccontextmanager
async def opened(databases: Databases, folder: Path, base_url: str | None = None) -> AsyncIterator[Cloud]:
    """A process of the service over databases that may be shared with others."""
    pools = Pools()
    identity = await open_identity(databases.global_, folder, pools, base_url=base_url)
    passwords = await bootstrap(identity)
    face = IdentityFace(identity)
    transport = httpx2.ASGITransport(HttpApp({"/identity": face, "": face}))
    async with httpx2.AsyncClient(transport=transport, base_url=URL) as client:
        try:
            yield Cloud(identity, client, passwords)
        finally:
            pools.close()


@dataclass
class Served:
    """The service on a port, how often it was asked, and how to stop it."""

    url: str
    asked: list[str]
    server: uvicorn.Server
    task: asyncio.Task[None]

    async def stop(self) -> None:
        self.server.should_exit = True
        await self.task


@asynccontextmanager
async def served(cloud: Cloud) -> AsyncIterator[Served]:
    asked: list[str] = []
    face = IdentityFace(cloud.identity)
    app = HttpApp({"/identity": face, "": face}, observe=lambda request, status, _: asked.append(request.method))
    server = uvicorn.Server(
        uvicorn.Config(app, port=0, log_level="error", lifespan="off", timeout_graceful_shutdown=1)
    )
    task = asyncio.create_task(server.serve())
    async with asyncio.timeout(10):
        while not server.started:  # noqa: ASYNC110  uvicorn has no event for it
            await asyncio.sleep(0.005)
    port = server.servers[0].sockets[0].getsockname()[1]
    found = Served(f"http://127.0.0.1:{port}", asked, server, task)
    try:
        yield found
    finally:
        if not task.done():
            await found.stop()
