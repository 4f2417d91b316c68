"""A network service alone, behind its face, with the tokens of the image tests."""

from __future__ import annotations

from typing import Any

import httpx2
from msgspec.json import encode

from image.image_cloud import Tokens
from kilonova.http.app import HttpApp
from kilonova.network.bootstrap import bootstrap_network
from kilonova.network.face import NetworkFace
from kilonova.network.resource import Limits
from kilonova.network.service import EmbeddedNetwork


class Cloud:
    """The face in the test's loop."""

    def __init__(self, databases: Any, **limits: Any) -> None:
        self.network = EmbeddedNetwork(databases.global_)
        face = NetworkFace(self.network, Tokens(), Limits(**limits))
        self.app = HttpApp({"": face, "/network": face})
        self._http = httpx2.AsyncClient(transport=httpx2.ASGITransport(app=self.app), base_url="http://cloud.test")
        self.private = ""

    async def call(
        self, method: str, path: str, body: Any = None, *, who: str | None = "member", data: bytes | None = None
    ) -> httpx2.Response:
        """One request below /network/v2.0; `data` is sent as it is."""
        headers = {"x-auth-token": who} if who is not None else {}
        url = path if path.startswith("http") else f"http://cloud.test/network/v2.0{path}"
        if body is None and data is None:
            return await self._http.request(method, url, headers=headers)
        headers["content-type"] = "application/json"
        content = data if data is not None else encode(body)
        return await self._http.request(method, url, content=content, headers=headers)

    async def make(self, kind: str, *, who: str = "member", **values: Any) -> Any:
        """A new network, subnet, port, ...; its view."""
        answer = await self.call("POST", f"/{kind.replace('_', '-')}s", {kind: values}, who=who)
        assert answer.status_code == 201, answer.text
        return answer.json()[kind]

    async def get(self, path: str, *, who: str = "member") -> Any:
        answer = await self.call("GET", path, who=who)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def net(self, cidr: str = "10.0.0.0/24", *, who: str = "member", **subnet: Any) -> tuple[Any, Any]:
        """A network with a subnet."""
        network = await self.make("network", who=who, name="mine")
        version = 6 if ":" in cidr else 4
        made = await self.make("subnet", who=who, network_id=network["id"], ip_version=version, cidr=cidr, **subnet)
        return network, made

    async def close(self) -> None:
        await self._http.aclose()


async def open_cloud(databases: Any, **limits: Any) -> Cloud:
    """With the shared network `private`."""
    cloud = Cloud(databases, **limits)
    cloud.private = await bootstrap_network(cloud.network, "admins")
    return cloud
