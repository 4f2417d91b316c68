"""What a test says to a cloud over HTTP, as one account."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from cloud_process import CloudProcess


def login_body(account: dict[str, str], *, password: str | None = None) -> dict[str, Any]:
    """An Identity v3 password log-in for an account of clouds.yaml."""
    user = {"name": account["username"], "domain": {"name": "Default"}, "password": password or account["password"]}
    auth: dict[str, Any] = {"identity": {"methods": ["password"], "password": {"user": user}}}
    if "project_name" in account:
        auth["scope"] = {"project": {"name": account["project_name"], "domain": {"name": "Default"}}}
    else:
        auth["scope"] = {"system": {"all": True}}
    return {"auth": auth}


class Account:
    """One account's session; paths are below the cloud's root."""

    def __init__(self, http: httpx2.AsyncClient, cloud: CloudProcess) -> None:
        self.http, self.cloud = http, cloud
        self.image = self.network = ""

    async def get(self, path: str, **options: Any) -> Any:
        answer = await self.http.get(path, **options)
        assert answer.status_code == 200, f"GET {path}: {answer.status_code} {answer.text[:500]}"
        return answer.json()

    async def look(self) -> None:
        """Learn the image and the network that a first start made."""
        self.image = (await self.get("/image/v2/images"))["images"][0]["id"]
        networks = (await self.get("/network/v2.0/networks"))["networks"]
        self.network = next(n["id"] for n in networks if n["name"] == "private")

    def wish(self, name: str, flavor: str = "3", **more: Any) -> dict[str, Any]:
        """A body for POST /servers."""
        return {
            "server": {
                "name": name, "flavorRef": flavor, "imageRef": self.image, "networks": [{"uuid": self.network}], **more
            }
        }  # fmt: skip

    async def create(self, name: str, headers: dict[str, str] | None = None, **more: Any) -> httpx2.Response:
        return await self.http.post("/compute/v2.1/servers", json=self.wish(name, **more), headers=headers)

    async def servers(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = (await self.get("/compute/v2.1/servers/detail"))["servers"]
        return found

    async def server(self, uuid: str) -> dict[str, Any] | None:
        answer = await self.http.get(f"/compute/v2.1/servers/{uuid}")
        return answer.json()["server"] if answer.status_code == 200 else None

    async def act(self, uuid: str, **action: Any) -> None:
        name, value = next(iter(action.items()))
        answer = await self.http.post(f"/compute/v2.1/servers/{uuid}/action", json={name.replace("_", "-"): value})
        assert answer.status_code == 202, answer.text

    async def until(self, uuid: str, *states: str, seconds: float = 60.0) -> dict[str, Any]:
        """The server once its status is one of `states` and nothing is under way; DELETED = gone."""
        async with asyncio.timeout(seconds):
            while True:
                server = await self.server(uuid)
                if server is None and "DELETED" in states:
                    return {}
                if server and server["status"] in states and server["OS-EXT-STS:task_state"] is None:
                    return server
                await asyncio.sleep(0.03)

    async def settled(self, seconds: float = 60.0) -> list[dict[str, Any]]:
        """All servers once nothing is under way on any."""
        async with asyncio.timeout(seconds):
            while True:
                servers = await self.servers()
                if all(s["OS-EXT-STS:task_state"] is None and s["status"] != "BUILD" for s in servers):
                    return servers
                await asyncio.sleep(0.05)

    async def delete_all(self) -> None:
        for server in await self.servers():
            await self.http.delete(f"/compute/v2.1/servers/{server['id']}")
        async with asyncio.timeout(60):
            while await self.servers():  # noqa: ASYNC110 - another process decides
                await asyncio.sleep(0.05)

    async def events(self, count: int, last: str = "") -> list[tuple[str, str, dict[str, Any]]]:
        """(kind, id, data) of the next `count` events after index `last`."""
        headers = {"last-event-id": last} if last else {}
        found: list[tuple[str, str, dict[str, Any]]] = []
        async with self.http.stream("GET", "/compute/v2.1/kilonova/events", headers=headers) as answer:
            assert answer.status_code == 200
            fields: dict[str, str] = {}
            async for line in answer.aiter_lines():
                if line:
                    name, _, value = line.partition(": ")
                    fields[name] = value
                    continue
                if "event" in fields:
                    found.append((fields["event"], fields["id"], json.loads(fields["data"])))
                    if len(found) == count:
                        break
                elif not count:
                    return [("", fields["id"], {})]
                fields = {}
        return found


@asynccontextmanager
async def account(cloud: CloudProcess, name: str = "kilonova") -> AsyncIterator[Account]:
    """Logged in as one of the clouds of clouds.yaml, knowing image and network."""
    timeout, limits = httpx2.Timeout(60.0), httpx2.Limits(max_connections=100)
    async with httpx2.AsyncClient(base_url=cloud.url, timeout=timeout, limits=limits) as http:
        answer = await http.post("/identity/v3/auth/tokens", json=login_body(cloud.account(name)))
        assert answer.status_code == 201, answer.text
        http.headers["x-auth-token"] = answer.headers["x-subject-token"]
        http.headers["openstack-api-version"] = "compute 2.96"
        made = Account(http, cloud)
        if name != "kilonova-system":
            await made.look()
        yield made
