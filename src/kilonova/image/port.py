"""What kilonova's services ask of an image service; filled by the embedded one and by a real Glance."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from msgspec import Struct

from kilonova.model.credentials import Credentials


class ImageNotFound(Exception):
    """No such image, or not visible to the caller."""


class ImageUnavailable(Exception):
    """The image service is away: try again."""


class ImageInfo(Struct, frozen=True, kw_only=True):
    """An image as the compute services need it."""

    id: str
    name: str
    status: str
    """`active` or not usable."""
    owner: str
    size: int
    min_disk: int = 0
    """GiB."""
    min_ram: int = 0
    """MiB."""
    disk_format: str
    container_format: str
    hash_algo: str | None = None
    hash_value: str | None = None
    virtual_size: int | None = None
    """Bytes, when known."""
    properties: dict[str, str] = {}


class ImagePort(Protocol):
    async def show(self, image_id: str, creds: Credentials) -> ImageInfo:
        """Raises ImageNotFound, ImageUnavailable."""

    def open(self, image_id: str) -> AsyncIterator[bytes]:
        """The image's bytes, as the service user. Raises ImageNotFound, ImageUnavailable."""
