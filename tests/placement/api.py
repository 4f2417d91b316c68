"""Placement's face in process: no socket, the same bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx2
import msgspec

from kilonova.http.app import HttpApp
from kilonova.http.errors import Unauthorized
from kilonova.model.credentials import Credentials
from kilonova.placement.face import PlacementFace


class Tokens:
    """``role[:project]`` is a valid token; ``bad`` is not."""

    async def validate(self, token: str) -> Credentials:
        role, _, project = token.partition(":")
        if role == "bad":
            raise Unauthorized("The request you have made requires authentication.")
        return Credentials.make("user", [role], project_id=project or "project")


@dataclass
class Answer:
    status: int
    body: bytes
    headers: Mapping[str, str]

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)

    @property
    def error(self) -> dict[str, Any]:
        found: dict[str, Any] = self.json["errors"][0]
        return found


class Api:
    """``await api("PUT", "/traits/CUSTOM_X")``."""

    def __init__(self, face: PlacementFace) -> None:
        app = HttpApp({"": face, "/placement": face})
        self._client = httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://cloud")

    async def __call__(
        self, method: str, path: str, body: Any = None, version: str = "1.39", token: str | None = "admin"
    ) -> Answer:
        sent = {"openstack-api-version": f"placement {version}"} if version else {}
        if token is not None:
            sent["x-auth-token"] = token
        content = None
        if body is not None:
            sent["content-type"] = "application/json"
            content = msgspec.json.encode(body)
        response = await self._client.request(method, f"/placement{path}", content=content, headers=sent)
        return Answer(response.status_code, response.content, response.headers)

    async def transport(self, method: str, path: str, headers: Mapping[str, str], body: bytes | None) -> Answer:
        """As `HttpPlacement` wants it."""
        sent = {**headers, "x-auth-token": "service"}
        response = await self._client.request(method, f"/placement{path}", content=body, headers=sent)
        return Answer(response.status_code, response.content, response.headers)

    async def close(self) -> None:
        await self._client.aclose()
