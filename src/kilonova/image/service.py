"""The embedded image service without its wire: rows in the global database, files in a store.

Always holds: an image is `active` only once its whole file lies durably under the name in its row; an upload
that ends in any other way leaves the image `queued` and no file. The file of a deleted image goes after its row.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
from msgspec import Struct

from kilonova.db.database import Database
from kilonova.db.queries import images as queries
from kilonova.db.queries.images import ImageRow
from kilonova.db.statement import Row
from kilonova.image.port import ImageInfo, ImageNotFound
from kilonova.image.store import ImageStore, StoredFile, StoreFull
from kilonova.image.visibility import sees
from kilonova.log import get_logger
from kilonova.model.credentials import Credentials
from kilonova.pools import Pool

log = get_logger(__name__)
_TRIES = 8


class ImageChanged(Exception):
    """The image is not (or no longer) in a state that allows it; the message says which it is in."""


class TooBig(Exception):
    """The data is larger than an image may be."""


class ImageLimits(Struct, frozen=True, kw_only=True):
    """Glance's quotas: bytes an image, entries an image; and the largest page."""

    size: int = 1 << 40
    properties: int = 128
    tags: int = 128
    members: int = 128
    page: int = 1000


class Staged(Struct, frozen=True, kw_only=True):
    """What waits for its import, and the task that was its import."""

    size: int
    md5: str
    sha512: str
    virtual_size: int | None
    task: str | None = None
    request_id: str = ""
    user_id: str = ""
    finished_at: int = 0


def _now() -> int:
    return time.time_ns() // 1000


class EmbeddedImages:
    """`ImagePort` over the global database and a folder; `ImageFace` puts it on the wire.

    Call `start` before use: it removes what interrupted uploads left.
    """

    def __init__(
        self,
        database: Database,
        folder: Path,
        files: Pool,
        *,
        limits: ImageLimits | None = None,
        reserve: int | None = None,
        clock: Callable[[], int] = _now,
    ) -> None:
        """`files`: the pool for file work; `reserve`: bytes of the disk left free."""
        self.database, self.clock = database, clock
        self.store = ImageStore(folder, files) if reserve is None else ImageStore(folder, files, reserve)
        self.limits = limits or ImageLimits()

    def __repr__(self) -> str:
        return f"EmbeddedImages({self.store!r})"

    async def start(self) -> None:
        """Sweep the store and put images whose upload died back to `queued`."""
        names = await self.store.listing()
        known = set(await self.database.scan(queries.FILES, {}, _first))
        await self.store.sweep([name for name in names if name not in known])
        alive = {name.removesuffix(".part") for name in await self.store.listing()}
        for row in await self.database.scan(queries.UNFINISHED, {}, queries.images):
            if f"{row.id}.{row.upload}" not in alive:
                row.status, row.upload = "queued", None
                await self.database.write(queries.update, row)

    # ImagePort

    async def show(self, image_id: str, creds: Credentials) -> ImageInfo:
        """The image if the caller may see it. Raises ImageNotFound."""
        return info(await self.visible(image_id, creds))

    async def open(self, image_id: str) -> AsyncIterator[bytes]:
        """The bytes of an image with data, in pieces of at most 1 MiB. Raises ImageNotFound."""
        row = await self.get(image_id)
        if row.file is None or row.status not in ("active", "deactivated"):
            raise ImageNotFound(image_id)
        try:
            async for piece in self.store.read(row.file):
                yield piece
        except FileNotFoundError:
            raise ImageNotFound(image_id) from None

    # for the composer

    async def import_file(
        self,
        path: Path,
        name: str,
        properties: dict[str, str],
        public: bool,
        *,
        owner: str = "",
        disk_format: str = "qcow2",
        min_disk: int = 0,
        min_ram: int = 0,
    ) -> ImageInfo:
        """Register a local file as an active image; the same file under the same name is registered once.

        The file is hashed and linked (or copied) in the file pool and may be removed afterwards, but not
        changed in place. `owner` is a project id. Raises StoreFull.
        """
        image_id = str(uuid4())
        stored = await self.store.adopt(path, image_id)
        listing = queries.page()
        listing.where("name = :name AND owner = :owner", name=name, owner=owner)
        listing.where("hash_value = :hash_value AND status = 'active'", hash_value=stored.sha512)
        found = await self.database.scan(listing.statement(1), listing.params, queries.images)
        if found:
            await self.store.remove(stored.name)
            return info(found[0])
        now = self.clock()
        row = ImageRow(
            id=image_id, owner=owner, name=name, visibility="public" if public else "shared", container_format="bare",
            disk_format=disk_format, min_disk=min_disk, min_ram=min_ram, properties=properties, created_at=now,
            updated_at=now,
        )  # fmt: skip
        _filled(row, stored)
        try:
            await self.database.write(queries.insert, row)
        except BaseException:
            await self.store.remove(stored.name)
            raise
        return info(row)

    # for the face

    async def get(self, image_id: str) -> ImageRow:
        """Whoever asks. Raises ImageNotFound."""
        row = await self.database.fetch_one(queries.GET, {"id": image_id})
        if row is None:
            raise ImageNotFound(image_id)
        return queries.image(row)

    async def visible(self, image_id: str, creds: Credentials) -> ImageRow:
        """Raises ImageNotFound also where the caller may not see it."""
        row = await self.get(image_id)
        if not sees(row, creds, await self._is_member(row, creds)):
            raise ImageNotFound(image_id)
        return row

    async def _is_member(self, row: ImageRow, creds: Credentials) -> bool:
        if row.visibility != "shared" or not creds.project_id or row.owner == creds.project_id:
            return False
        key = {"id": row.id, "member": creds.project_id}
        return await self.database.fetch_one(queries.MEMBER, key) is not None

    async def change(self, image_id: str, edit: Callable[[ImageRow], None]) -> ImageRow:
        """Apply `edit` to the row as it is now; it may run again. Raises ImageNotFound and whatever `edit` does."""
        for _ in range(_TRIES):
            row = await self.get(image_id)
            edit(row)
            row.updated_at = max(self.clock(), row.updated_at)
            if await self.database.write(queries.update, row):
                row.generation += 1
                return row
        raise ImageChanged("it is being changed by others again and again")

    async def delete(self, row: ImageRow) -> None:
        """Raises ImageChanged when others changed it meanwhile; gone already is success."""
        if not await self.database.write(queries.delete, row):
            try:
                await self.get(row.id)
            except ImageNotFound:
                return
            raise ImageChanged("it was changed meanwhile")
        if row.file is not None:
            await self.store.remove(row.file)

    async def receive(
        self, image_id: str, pieces: AsyncIterator[bytes], expected: int | None, *, stage: bool = False
    ) -> ImageRow:
        """Stream an image's data in; then it is `active`, or `uploading` when only staged.

        Raises ImageChanged (not queued, or gone before the end), TooBig, StoreFull, what `pieces` raises.
        """
        if expected is not None and expected > self.limits.size:
            raise TooBig(f"An image may have {self.limits.size} bytes.")
        upload = str(uuid4())

        def begin(row: ImageRow) -> None:
            if row.status != "queued":
                raise ImageChanged(f"its status is {row.status}, not queued")
            row.status, row.upload = "saving", upload

        await self.change(image_id, begin)
        incoming = self.store.incoming(image_id, upload)
        try:
            await incoming.open(expected)
            async for piece in pieces:
                if incoming.size + len(piece) > self.limits.size:
                    raise TooBig(f"An image may have {self.limits.size} bytes.")
                await incoming.write(piece)
            stored = await incoming.finish()
            return await self.change(image_id, _ending(upload, stored, stage))
        except BaseException as error:
            await incoming.abandon()
            await self._requeue(image_id, upload)
            if isinstance(error, ImageNotFound):
                raise ImageChanged("it was deleted during the upload") from None
            raise
        finally:
            await incoming.close()

    async def _requeue(self, image_id: str, upload: str) -> None:
        """Best effort: at the next start `start` does the same."""

        def back(row: ImageRow) -> None:
            if row.upload != upload:
                raise ImageChanged("another upload owns it")
            row.status, row.upload = "queued", None

        try:
            await self.change(image_id, back)
        except (ImageNotFound, ImageChanged):
            return
        except Exception as error:
            log.error("image %s stays 'saving' until the next start: %s", image_id, error)

    async def finish_import(self, image_id: str, request_id: str, user_id: str) -> ImageRow:
        """Turn staged data into the image's own. Raises ImageChanged, ImageNotFound."""

        def edit(row: ImageRow) -> None:
            if row.status != "uploading" or row.staged is None or row.file is None:
                raise ImageChanged(f"its status is {row.status}, not uploading")
            staged = msgspec.json.decode(row.staged, type=Staged)
            _filled(
                row,
                StoredFile(
                    name=row.file, size=staged.size, md5=staged.md5, sha512=staged.sha512,
                    virtual_size=staged.virtual_size,
                ),
            )  # fmt: skip
            done = msgspec.structs.replace(
                staged, task=str(uuid4()), request_id=request_id, user_id=user_id, finished_at=self.clock()
            )
            row.staged = msgspec.json.encode(done).decode()

        return await self.change(image_id, edit)


def _ending(upload: str, stored: StoredFile, stage: bool) -> Callable[[ImageRow], None]:
    def end(row: ImageRow) -> None:
        if row.upload != upload:
            raise ImageChanged("another upload has taken its place")
        if stage:
            row.status, row.upload, row.file = "uploading", None, stored.name
            staged = Staged(
                size=stored.size, md5=stored.md5, sha512=stored.sha512, virtual_size=stored.virtual_size
            )
            row.staged = msgspec.json.encode(staged).decode()
        else:
            _filled(row, stored)

    return end


def _filled(row: ImageRow, stored: StoredFile) -> None:
    row.status, row.upload, row.file = "active", None, stored.name
    row.size, row.checksum, row.hash_algo, row.hash_value = stored.size, stored.md5, "sha512", stored.sha512
    row.virtual_size = stored.virtual_size
    if row.virtual_size is None and row.disk_format in ("raw", "iso"):
        row.virtual_size = stored.size


def _first(rows: list[Row]) -> list[Any]:
    return [row[0] for row in rows]


def info(row: ImageRow) -> ImageInfo:
    """As the compute services need it."""
    return ImageInfo(
        id=row.id, name=row.name or "", status=row.status, owner=row.owner, size=row.size or 0,
        min_disk=row.min_disk, min_ram=row.min_ram, disk_format=row.disk_format or "",
        container_format=row.container_format or "", hash_algo=row.hash_algo, hash_value=row.hash_value,
        virtual_size=row.virtual_size, properties=row.properties,
    )  # fmt: skip


__all__ = ["EmbeddedImages", "ImageChanged", "ImageLimits", "Staged", "StoreFull", "TooBig", "info"]
