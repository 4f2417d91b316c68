"""What the routes of the image API do with images, tags and members: everything but the data."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

from kilonova.db.database import Tx
from kilonova.db.queries import images as queries
from kilonova.db.queries.images import IdTaken, ImageRow, Member
from kilonova.db.statement import Row
from kilonova.http.errors import BadRequest, Conflict, Forbidden, NotFound, TooLarge, UnsupportedMedia
from kilonova.http.message import Request, Response, empty, json_response
from kilonova.image import listing, patching, views
from kilonova.image.attributes import check_limits, new_row
from kilonova.image.port import ImageNotFound
from kilonova.image.service import EmbeddedImages, ImageChanged
from kilonova.image.visibility import is_owner, may_write
from kilonova.model.credentials import Credentials

_IMPORT = {"openstack-image-import-methods": "glance-direct"}


@asynccontextmanager
async def wire_errors(image_id: str) -> AsyncIterator[None]:
    """The service's errors as HTTP faults."""
    try:
        yield
    except ImageNotFound:
        raise NotFound(f"Failed to find image {image_id[:100]}") from None
    except ImageChanged as error:
        raise Conflict(f"Image {image_id} can't be changed like this: {error}.") from None


class ImageHandlers:
    """Handlers over one `EmbeddedImages`."""

    def __init__(self, images: EmbeddedImages) -> None:
        self.images = images

    async def writable(self, request: Request) -> ImageRow:
        """The image of the path, if the caller may change it. Raises NotFound, Forbidden."""
        image_id = request.params["id"].lower()
        async with wire_errors(image_id):
            row = await self.images.visible(image_id, request.credentials)
        if not is_owner(row, request.credentials) or not may_write(request.credentials):
            raise Forbidden(f"You are not permitted to change image {row.id}.")
        return row

    async def readable(self, request: Request) -> ImageRow:
        """The image of the path, if the caller may see it. Raises NotFound."""
        image_id = request.params["id"].lower()
        async with wire_errors(image_id):
            return await self.images.visible(image_id, request.credentials)

    async def create(self, request: Request) -> Response:
        body = await request.json()
        if not isinstance(body, dict):
            raise BadRequest("The body must be a JSON object.")
        creds = request.credentials
        if not may_write(creds) or (creds.project_id is None and not creds.is_admin):
            raise Forbidden("Your role in this scope may not create images.")
        row = new_row(body, creds, str(uuid4()), self.images.clock(), self.images.limits)
        try:
            await self.images.database.write(queries.insert, row)
        except IdTaken:
            raise Conflict(f"Image ID {row.id} already exists!") from None
        return json_response(views.image(row), 201, {"location": f"/v2/images/{row.id}", **_IMPORT})

    async def index(self, request: Request) -> Response:
        rows, following = await listing.page(self.images, request)
        body: dict[str, Any] = {
            "images": [views.image(row) for row in rows],
            "first": "/v2/images" + _query(request),
            "schema": "/v2/schemas/images",
        }
        if following is not None:
            body["next"] = following
        return json_response(body)

    async def show(self, request: Request) -> Response:
        return json_response(views.image(await self.readable(request)))

    async def patch(self, request: Request) -> Response:
        media = request.media
        if media not in (patching.MEDIA_V20, patching.MEDIA_V21):
            accepted = f"{patching.MEDIA_V20}, {patching.MEDIA_V21}"
            raise UnsupportedMedia(
                f"Image PATCH expects Content-Type one of: {accepted}", headers={"accept-patch": accepted}
            )
        changes = patching.parse(await request.json(media=media), media)
        row = await self.writable(request)
        limits = self.images.limits

        def edit(row: ImageRow) -> None:
            patching.apply(row, changes, request.credentials)
            check_limits(row, limits)

        return json_response(views.image(await self._change(row, edit) if changes else row))

    async def delete(self, request: Request) -> Response:
        row = await self.writable(request)
        if row.protected:
            raise Forbidden(f"Image {row.id} is protected and cannot be deleted.")
        async with wire_errors(row.id):
            await self.images.delete(row)
        return empty()

    async def deactivate(self, request: Request) -> Response:
        return await self._switch(request, "deactivated")

    async def reactivate(self, request: Request) -> Response:
        return await self._switch(request, "active")

    async def _switch(self, request: Request, status: str) -> Response:
        row = await self.writable(request)

        def edit(row: ImageRow) -> None:
            if row.status not in ("active", "deactivated"):
                raise Forbidden(f"Not allowed for an image whose status is {row.status}.")
            row.status = status

        await self._change(row, edit)
        return empty()

    async def add_tag(self, request: Request) -> Response:
        tag = request.params["tag"]
        if len(tag) > 255:
            raise BadRequest("A tag has at most 255 characters.")
        row = await self.writable(request)
        limits = self.images.limits

        def edit(row: ImageRow) -> None:
            row.tags = sorted({*row.tags, tag})
            check_limits(row, limits)

        if tag not in row.tags:
            await self._change(row, edit)
        return empty()

    async def drop_tag(self, request: Request) -> Response:
        tag = request.params["tag"]
        row = await self.writable(request)

        def edit(row: ImageRow) -> None:
            if tag not in row.tags:
                raise NotFound(f"Image {row.id} has no tag {tag[:100]!r}.")
            row.tags = [each for each in row.tags if each != tag]

        await self._change(row, edit)
        return empty()

    async def _change(self, row: ImageRow, edit: Callable[[ImageRow], None]) -> ImageRow:
        async with wire_errors(row.id):
            return await self.images.change(row.id, edit)

    # members

    async def members(self, request: Request) -> Response:
        row = await self.readable(request)
        if row.visibility != "shared":
            raise Forbidden("Only shared images have members.")
        found = await self.images.database.scan(queries.MEMBERS, {"id": row.id}, _members)
        if not is_owner(row, request.credentials):
            found = [each for each in found if each.member == request.credentials.project_id]
        return json_response({"members": [views.member(each) for each in found], "schema": "/v2/schemas/members"})

    async def member(self, request: Request) -> Response:
        row = await self.readable(request)
        return json_response(views.member(await self._member(row, request)))

    async def add_member(self, request: Request) -> Response:
        body = await request.json()
        member = body.get("member") if isinstance(body, dict) else None
        if not isinstance(member, str) or not 0 < len(member) <= 191:
            raise BadRequest('Member to be added not specified: expected {"member": "project id"}.')
        row = await self.writable(request)
        if row.visibility != "shared":
            raise Forbidden("Only shared images have members.")
        most = self.images.limits.members
        count = len(await self.images.database.scan(queries.MEMBERS, {"id": row.id}, _members))
        if 0 <= most <= count:
            raise TooLarge(f"The limit of {most} members an image is exceeded.")
        if not await self.images.database.write(_add_member, (row.id, member, self.images.clock())):
            raise Conflict(f"{member} is a member of image {row.id} already.")
        return json_response(views.member(await self._find(row, member)))

    async def set_member(self, request: Request) -> Response:
        body = await request.json()
        status = body.get("status") if isinstance(body, dict) else None
        if status not in ("pending", "accepted", "rejected") or not isinstance(status, str):
            raise BadRequest('Expected a status in the form: {"status": "pending" | "accepted" | "rejected"}.')
        row = await self.readable(request)
        found = await self._member(row, request)
        if not _is_self(found.member, request.credentials) or not may_write(request.credentials):
            raise Forbidden("Only the member itself accepts or rejects an image.")
        now = self.images.clock()
        if not await self.images.database.write(_set_member, (row.id, found.member, status, now)):
            raise NotFound(f"{found.member} is no member of image {row.id}.")
        return json_response(views.member(await self._find(row, found.member)))

    async def drop_member(self, request: Request) -> Response:
        row = await self.writable(request)
        member = request.params["member"]
        if not await self.images.database.write(_drop_member, (row.id, member)):
            raise NotFound(f"{member[:100]} is no member of image {row.id}.")
        return empty()

    async def _member(self, row: ImageRow, request: Request) -> Member:
        member = request.params["member"]
        creds = request.credentials
        if not is_owner(row, creds) and member != creds.project_id:
            raise NotFound(f"{member[:100]} is no member of image {row.id}.")
        return await self._find(row, member)

    async def _find(self, row: ImageRow, member: str) -> Member:
        found = await self.images.database.fetch_one(queries.MEMBER, {"id": row.id, "member": member})
        if found is None:
            raise NotFound(f"{member[:100]} is no member of image {row.id}.")
        return Member(*found)

    async def tasks_of(self, request: Request) -> Response:
        return json_response({"tasks": views.tasks(await self.readable(request))})

    async def tasks(self, request: Request) -> Response:
        """The list of all tasks: imports are done at once, so none is ever under way."""
        if not request.credentials.is_admin:
            raise Forbidden("You are not authorized to complete get_tasks action.")
        return json_response({"tasks": [], "first": "/v2/tasks" + _query(request), "schema": "/v2/schemas/tasks"})


def _is_self(member: str, creds: Credentials) -> bool:
    return creds.is_admin or member == creds.project_id


def _query(request: Request) -> str:
    kept = [(k, v) for k, v in request.query if k != "marker"]
    return "?" + urlencode(kept) if kept else ""


def _members(rows: list[Row]) -> list[Member]:
    return [Member(*row) for row in rows]


async def _add_member(tx: Tx, args: tuple[str, str, int]) -> bool:
    return await queries.add_member(tx, *args)


async def _set_member(tx: Tx, args: tuple[str, str, str, int]) -> bool:
    return await queries.set_member(tx, *args)


async def _drop_member(tx: Tx, args: tuple[str, str]) -> bool:
    return await queries.drop_member(tx, *args)
