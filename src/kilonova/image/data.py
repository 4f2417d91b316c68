"""The data of images over HTTP: upload, staging, import and download, always in pieces.

A disk without room answers 503 with Retry-After (the whole cloud does: contracts), not Glance's 413, which is kept
for data over a limit.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

from kilonova.http.errors import (
    BadRequest,
    Conflict,
    Forbidden,
    Gone,
    HttpError,
    NotFound,
    TooLarge,
    Unavailable,
    UnsupportedMedia,
)
from kilonova.http.message import Request, Response, empty
from kilonova.image.handlers import ImageHandlers, wire_errors
from kilonova.image.service import ImageChanged, TooBig
from kilonova.image.store import StoreFull

_OCTETS = "application/octet-stream"
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})\Z")


class RangeUnsatisfiable(HttpError):
    """The range begins after the end."""

    status = 416


class DataHandlers(ImageHandlers):
    """Handlers of /file, /stage and /import."""

    async def upload(self, request: Request) -> Response:
        return await self._receive(request, stage=False)

    async def stage(self, request: Request) -> Response:
        return await self._receive(request, stage=True)

    async def _receive(self, request: Request, stage: bool) -> Response:
        if request.media != _OCTETS:
            raise UnsupportedMedia(f"Image data is sent as {_OCTETS}, not {request.media[:100] or 'without a type'}.")
        row = await self.writable(request)
        if not stage and (row.disk_format is None or row.container_format is None):
            raise BadRequest("Properties disk_format, container_format must be set prior to saving data.")
        expected = _length(request)
        try:
            await self.images.receive(row.id, request.stream(), expected, stage=stage)
        except ImageChanged as error:
            if "deleted" in str(error):
                raise Gone(f"Image {row.id} could not be found after upload: {error}.") from None
            raise Conflict(f"Image {row.id} takes no data: {error}.") from None
        except TooBig as error:
            raise TooLarge(str(error)) from None
        except StoreFull as error:
            raise Unavailable(f"There is no room for the image's data: {error}.", 30) from None
        return empty()

    async def import_image(self, request: Request) -> Response:
        body = await request.json()
        method = body.get("method") if isinstance(body, dict) else None
        name = method.get("name") if isinstance(method, dict) else None
        if not isinstance(name, str):
            raise BadRequest("Import request requires a 'method' field with a 'name'.")
        if name != "glance-direct":
            raise BadRequest(f"Unknown import method name '{name[:100]}'.")
        row = await self.writable(request)
        if row.status != "uploading":
            raise Conflict(f"Image {row.id} needs to be staged before 'glance-direct' method can be used.")
        if row.disk_format is None or row.container_format is None:
            raise Conflict("Properties disk_format, container_format must be set before an import.")
        async with wire_errors(row.id):
            await self.images.finish_import(row.id, request.request_id, request.credentials.user_id)
        return empty(202)

    async def download(self, request: Request) -> Response:
        row = await self.readable(request)
        if row.status == "deactivated" and not request.credentials.is_admin:
            raise Forbidden("The requested image has been deactivated. Image data download is forbidden.")
        if row.status not in ("active", "deactivated") or row.file is None or row.size is None:
            return empty(204)
        start, end = _range(request.headers.get("range"), row.size)
        length = end - start
        headers = {"content-type": _OCTETS, "content-length": str(length), "accept-ranges": "bytes"}
        status = 200
        if length != row.size:
            status = 206
            headers["content-range"] = f"bytes {start}-{end - 1}/{row.size}"
        elif row.checksum is not None:
            headers["content-md5"] = row.checksum
        if request.method == "HEAD":
            return Response(status, b"", headers)
        pieces = self.images.store.read(row.file, start, length)
        try:
            first = await anext(pieces, b"")
        except FileNotFoundError:
            raise NotFound(f"The data of image {row.id} is gone.") from None

        async def stream() -> AsyncIterator[bytes]:
            try:
                if first:
                    yield first
                async for piece in pieces:
                    yield piece
            finally:
                await pieces.aclose()

        return Response(status, headers=headers, stream=stream())


def _length(request: Request) -> int | None:
    """How much is announced, by the body's length or by the client's own word."""
    told = [
        value
        for name in ("content-length", "x-openstack-image-size")
        if (value := request.headers.get(name)) is not None
    ]
    if any(not (value.isascii() and value.isdigit()) or len(value) > 18 for value in told):
        raise BadRequest("The announced size must be a whole number of bytes.")
    if len({int(value) for value in told}) > 1:
        raise BadRequest("The announced sizes differ.")
    return int(told[0]) if told else None


def _range(header: str | None, size: int) -> tuple[int, int]:
    """[start, end) of one range; what is no such range is ignored (RFC 9110, 14.2)."""
    found = _RANGE.match(header.strip()) if header else None
    if found is None or found.group(1) == found.group(2) == "":
        return 0, size
    first, last = found.groups()
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < start:
            return 0, size
    if start >= size:
        raise RangeUnsatisfiable("The range begins after the end.", headers={"content-range": f"bytes */{size}"})
    return start, end
