"""Where a host gets an image's bytes: a port with two fillings.

The embedded image service is a direct call that the composer hands in; a real Glance is read over
HTTP by `GlanceSource`. Both only stream; checking and keeping is the image cache's work.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Protocol

from kilonova.compute.virt.driver import Image, Refused, ReportProgress, Transient
from kilonova.model.guest import ImageRef

PIECE = 1 << 20


class ImageSource(Protocol):
    """Streams images by id."""

    def open(self, image_id: str) -> AsyncIterator[bytes]:
        """Yield the file in pieces of at most 1 MiB. Raises Refused("image_gone") or Transient."""


class Images(Protocol):
    """The host's cache of checked images."""

    async def get(self, image: ImageRef, progress: ReportProgress) -> Image:
        """Return the image on this host's disk, fetched and checked if need be. Raises DriverError."""


class GlanceSource:
    """Images of a Glance v2 endpoint, read with a service token.

    `token` returns a valid `X-Auth-Token`; with `fresh` true a new one, after the last was refused.
    """

    def __init__(self, endpoint: str, token: Callable[[bool], Awaitable[str]], *, idle: float = 60.0) -> None:
        self._endpoint, self._token, self._idle = endpoint.rstrip("/"), token, idle

    async def open(self, image_id: str) -> AsyncIterator[bytes]:
        import aiohttp

        url = f"{self._endpoint}/v2/images/{image_id}/file"
        limits = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=self._idle)
        try:
            async with aiohttp.ClientSession(timeout=limits) as session:
                for attempt in range(2):
                    headers = {"X-Auth-Token": await self._token(attempt > 0)}
                    async with session.get(url, headers=headers, allow_redirects=False) as answer:
                        if answer.status == 401 and attempt == 0:
                            continue
                        _check(answer.status, image_id)
                        async with aclosing(_pieces(answer.content)) as pieces:
                            async for piece in pieces:
                                yield piece
                        return
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise Transient("image_service", f"image {image_id}: {type(error).__name__}: {error}") from error


async def _pieces(content: object) -> AsyncGenerator[bytes, None]:
    async for piece in content.iter_chunked(PIECE):  # type: ignore[attr-defined]  # aiohttp is imported lazily
        yield piece


def _check(status: int, image_id: str) -> None:
    """Raise what an answer that is no image means."""
    if status == 200:
        return
    if status in (204, 404, 410):
        raise Refused("image_gone", f"image {image_id} has no data in the image service")
    if status in (401, 403):
        raise Transient("image_service", f"the image service refused the service user ({status})")
    raise Transient("image_service", f"the image service answered {status} for image {image_id}")
