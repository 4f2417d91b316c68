"""A real Glance behind `ImagePort`, read by our own account.

The account is an admin there and sees everything, so who may see an image is decided here, by Glance's rules.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any
from urllib.parse import quote

from kilonova.http.neighbour import Neighbour, NeighbourAway
from kilonova.image.port import ImageInfo, ImageNotFound, ImageUnavailable
from kilonova.model.credentials import Credentials

_BASE = frozenset({
    "id", "name", "status", "visibility", "owner", "protected", "os_hidden", "container_format", "disk_format", "size",
    "virtual_size", "checksum", "os_hash_algo", "os_hash_value", "min_disk", "min_ram", "created_at", "updated_at",
    "tags", "self", "file", "schema", "locations", "direct_url", "stores",
})  # fmt: skip


class GlanceClient:
    """``GlanceClient(Neighbour("Glance", endpoint, tokens))``; `endpoint` is without ``/v2``."""

    def __init__(self, glance: Neighbour) -> None:
        self._glance = glance

    def __repr__(self) -> str:
        return f"GlanceClient({self._glance!r})"

    async def show(self, image_id: str, creds: Credentials) -> ImageInfo:
        """Raises ImageNotFound, ImageUnavailable."""
        path = f"/v2/images/{quote(image_id, safe='')}"
        try:
            answer = await self._glance.ask("GET", path)
            if answer.status != 200 or not image_id or answer.word("id").lower() != image_id.lower():
                raise ImageNotFound(image_id)
            if not await self._sees(answer.body, path, creds):
                raise ImageNotFound(image_id)
        except NeighbourAway as error:
            raise ImageUnavailable(str(error)) from None
        return _info(answer.body)

    async def _sees(self, image: dict[str, Any], path: str, creds: Credentials) -> bool:
        if creds.is_admin or image.get("visibility") in ("public", "community"):
            return True
        if not creds.project_id:
            return False
        if image.get("owner") == creds.project_id:
            return True
        if image.get("visibility") != "shared":
            return False
        return (await self._glance.ask("GET", f"{path}/members/{quote(creds.project_id, safe='')}")).status == 200

    async def open(self, image_id: str) -> AsyncIterator[bytes]:
        """Raises ImageNotFound, ImageUnavailable."""
        try:
            async with aclosing(self._glance.stream(f"/v2/images/{quote(image_id, safe='')}/file")) as pieces:
                async for piece in pieces:
                    if isinstance(piece, bytes):
                        yield piece
                    elif piece in (204, 404, 410):
                        raise ImageNotFound(image_id)
                    elif piece != 200:
                        raise ImageUnavailable(f"Glance answers our account {piece} for image {image_id}")
        except NeighbourAway as error:
            raise ImageUnavailable(str(error)) from None


def _info(image: dict[str, Any]) -> ImageInfo:
    return ImageInfo(
        id=str(image["id"]), name=image.get("name") or "", status=str(image.get("status") or ""),
        owner=image.get("owner") or "", size=image.get("size") or 0, min_disk=image.get("min_disk") or 0,
        min_ram=image.get("min_ram") or 0, disk_format=image.get("disk_format") or "",
        container_format=image.get("container_format") or "", hash_algo=image.get("os_hash_algo"),
        hash_value=image.get("os_hash_value"), virtual_size=image.get("virtual_size"),
        properties={name: value for name, value in image.items() if name not in _BASE and isinstance(value, str)},
    )  # fmt: skip
