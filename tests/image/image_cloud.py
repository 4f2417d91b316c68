"""An image service alone, with tokens that are words."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import httpx2

from kilonova.db.errors import StorageFull
from kilonova.http.app import HttpApp
from kilonova.http.errors import HttpError, Unauthorized, Unavailable
from kilonova.image.face import ImageFace
from kilonova.image.service import EmbeddedImages, ImageLimits
from kilonova.model.credentials import Credentials
from kilonova.pools import Pools

PATCH = "application/openstack-images-v2.1-json-patch"
DEMO, OTHER, ADMIN = (uuid5(UUID(int=0), name).hex for name in ("demo", "other", "admin"))


def creds(name: str, project: str | None, *roles: str) -> Credentials:
    return Credentials.make(uuid5(UUID(int=1), name).hex, roles, project_id=project, user_name=name)


TOKENS = {
    "member": creds("member", DEMO, "member"),
    "reader": creds("reader", DEMO, "reader"),
    "other": creds("other", OTHER, "member"),
    "admin": creds("admin", ADMIN, "admin"),
    "nowhere": creds("nowhere", None),
}


class Tokens:
    async def validate(self, token: str) -> Credentials:
        try:
            return TOKENS[token]
        except KeyError:
            raise Unauthorized("no such token") from None


def full(error: Exception) -> HttpError | None:
    return Unavailable("The disk is full.") if isinstance(error, StorageFull) else None


class Cloud:
    """The face in the test's loop."""

    def __init__(self, databases: Any, folder: Path, **more: Any) -> None:
        self.pools = Pools()
        more.setdefault("reserve", 0)
        self.images = EmbeddedImages(databases.global_, folder / "image-store", self.pools["files"], **more)
        self.app = HttpApp({"": ImageFace(self.images, Tokens()), "/image": ImageFace(self.images, Tokens())},
                           translate=full)  # fmt: skip
        self._http = httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app=self.app), base_url="http://cloud.test/image/v2"
        )

    async def call(
        self, method: str, path: str, body: Any = None, *, who: str | None = "member", data: bytes | None = None,
        media: str | None = None, headers: dict[str, str] | None = None,
    ) -> httpx2.Response:  # fmt: skip
        """One request below /image/v2; `data` is sent as it is, `body` as JSON."""
        sent = dict(headers or {})
        if who is not None:
            sent["x-auth-token"] = who
        url = path if path.startswith("http") else f"http://cloud.test/image/v2{path}"
        if data is None and body is None:
            return await self._http.request(method, url, headers=sent)
        if data is not None:
            return await self._http.request(
                method, url, content=data, headers={"content-type": media or "application/octet-stream", **sent}
            )
        from msgspec.json import encode

        return await self._http.request(
            method, url, content=encode(body), headers={"content-type": media or "application/json", **sent}
        )

    async def new(self, name: str = "cirros", *, who: str = "member", **more: Any) -> str:
        """A queued image; its id."""
        body = {"name": name, "disk_format": "qcow2", "container_format": "bare", **more}
        answer = await self.call("POST", "/images", body, who=who)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    async def active(self, name: str = "cirros", *, data: bytes = b"bytes", who: str = "member", **more: Any) -> str:
        """An image with data; its id."""
        image = await self.new(name, who=who, **more)
        answer = await self.call("PUT", f"/images/{image}/file", data=data, who=who)
        assert answer.status_code == 204, answer.text
        return image

    async def show(self, image: str, who: str = "member") -> Any:
        answer = await self.call("GET", f"/images/{image}", who=who)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def files(self) -> list[str]:
        return sorted(path.name for path in self.images.store.folder.iterdir())

    async def close(self) -> None:
        await self._http.aclose()
        self.pools.close()


async def open_cloud(databases: Any, folder: Path, **more: Any) -> Cloud:
    cloud = Cloud(databases, folder, **more)
    await cloud.images.start()
    return cloud


__all__ = ["ADMIN", "DEMO", "OTHER", "PATCH", "TOKENS", "Cloud", "ImageLimits", "open_cloud"]
