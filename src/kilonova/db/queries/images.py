"""Images, their members and the facts that lists search by.

A row changes under its generation. Status changes are conditional: what an upload writes at its end counts
only while the row still waits for that upload.
"""

from __future__ import annotations

import hashlib

import msgspec
from msgspec import Struct

from kilonova.db.database import Tx
from kilonova.db.queries.listing import Listing
from kilonova.db.statement import Row, Statement, Value

COLUMNS = """id, owner, name, status, visibility, container_format, disk_format, size, virtual_size, checksum,
    hash_algo, hash_value, min_disk, min_ram, protected, hidden, properties, tags, file, upload, staged, generation,
    created_at, updated_at"""
_NAMES = [name.strip() for name in COLUMNS.split(",")]
_KEPT = [name for name in _NAMES if name not in ("id", "generation", "created_at")]

GET = Statement(f"SELECT {COLUMNS} FROM images WHERE id = :id")
_INSERT = Statement(f"INSERT INTO images ({COLUMNS}) VALUES ({', '.join(':' + name for name in _NAMES)})")
_UPDATE = Statement(
    f"""UPDATE images SET {', '.join(f'{name} = :{name}' for name in _KEPT)}, generation = generation + 1
        WHERE id = :id AND generation = :generation"""
)
_DELETE = Statement("DELETE FROM images WHERE id = :id AND generation = :generation")
UNFINISHED = Statement(f"SELECT {COLUMNS} FROM images WHERE status = 'saving'", scans="once, at start")
FILES = Statement("SELECT file FROM images WHERE file IS NOT NULL", scans="once, at start")

_FACT = Statement("INSERT INTO image_facts (fact, image_id) VALUES (:fact, :image_id)")
_FORGET = Statement("DELETE FROM image_facts WHERE image_id = :image_id")

_MEMBER_COLUMNS = "image_id, member_id, status, created_at, updated_at"
MEMBERS = Statement(f"SELECT {_MEMBER_COLUMNS} FROM image_members WHERE image_id = :id ORDER BY created_at, member_id")
MEMBER = Statement(f"SELECT {_MEMBER_COLUMNS} FROM image_members WHERE image_id = :id AND member_id = :member")
_ADD_MEMBER = Statement(
    f"INSERT INTO image_members ({_MEMBER_COLUMNS}) VALUES (:id, :member, :status, :now, :now)"
)
_SET_MEMBER = Statement(
    "UPDATE image_members SET status = :status, updated_at = :now WHERE image_id = :id AND member_id = :member"
)
_DROP_MEMBER = Statement("DELETE FROM image_members WHERE image_id = :id AND member_id = :member")
_DROP_MEMBERS = Statement("DELETE FROM image_members WHERE image_id = :id")

ORDER = {
    "name": "COALESCE(name, '')",
    "status": "status",
    "container_format": "COALESCE(container_format, '')",
    "disk_format": "COALESCE(disk_format, '')",
    "size": "COALESCE(size, -1)",
    "id": "id",
    "created_at": "created_at",
    "updated_at": "updated_at",
}
WITH_FACT = "EXISTS (SELECT 1 FROM image_facts f WHERE f.image_id = images.id AND f.fact = :{0})"


class ImageRow(Struct, kw_only=True):
    """An image; times in microseconds UTC, `size` and `virtual_size` in bytes, min_disk GiB, min_ram MiB."""

    id: str
    owner: str
    name: str | None = None
    status: str = "queued"
    visibility: str = "shared"
    container_format: str | None = None
    disk_format: str | None = None
    size: int | None = None
    virtual_size: int | None = None
    checksum: str | None = None
    hash_algo: str | None = None
    hash_value: str | None = None
    min_disk: int = 0
    min_ram: int = 0
    protected: int = 0
    hidden: int = 0
    properties: dict[str, str] = {}
    tags: list[str] = []
    file: str | None = None
    upload: str | None = None
    staged: str | None = None
    """JSON, the image service's own."""
    generation: int = 1
    created_at: int = 0
    updated_at: int = 0

    def __repr__(self) -> str:
        return f"<ImageRow {self.id} {self.status}>"


class Member(Struct, frozen=True):
    """Whom a shared image is shown to; status pending, accepted or rejected."""

    image_id: str
    member: str
    status: str
    created_at: int
    updated_at: int


class IdTaken(Exception):
    """An image of that id exists."""


_properties = msgspec.json.Decoder(dict[str, str]).decode
_tags = msgspec.json.Decoder(list[str]).decode
_encode = msgspec.json.Encoder(order="sorted").encode


def image(row: Row) -> ImageRow:
    """From a row of `GET` or of a `page`."""
    made = ImageRow(**dict(zip(_NAMES, row, strict=True)))
    made.properties = _properties(made.properties)  # type: ignore[arg-type]  # the column is text
    made.tags = _tags(made.tags)  # type: ignore[arg-type]  # the column is text
    return made


def images(rows: list[Row]) -> list[ImageRow]:
    """From rows: the `fold` of a scan."""
    return [image(row) for row in rows]


def page() -> Listing:
    """An empty list query; conditions name the columns of `images`."""
    return Listing(COLUMNS, "images", ORDER)


def tag_fact(tag: str) -> str:
    return hashlib.sha256(b"t\0" + tag.encode()).hexdigest()


def property_fact(name: str, value: str) -> str:
    return hashlib.sha256(b"p\0" + name.encode() + b"\0" + value.encode()).hexdigest()


def _params(row: ImageRow) -> dict[str, Value]:
    params: dict[str, Value] = {name: getattr(row, name) for name in _NAMES}
    params["properties"] = _encode(row.properties).decode()
    params["tags"] = _encode(row.tags).decode()
    return params


async def _facts(tx: Tx, row: ImageRow) -> None:
    facts = {tag_fact(tag) for tag in row.tags} | {property_fact(k, v) for k, v in row.properties.items()}
    if facts:
        await tx.execute_many(_FACT, [{"fact": fact, "image_id": row.id} for fact in sorted(facts)])


async def insert(tx: Tx, row: ImageRow) -> None:
    """Raises IdTaken."""
    if not await tx.insert_if_absent(_INSERT, _params(row)):
        raise IdTaken
    await _facts(tx, row)


async def update(tx: Tx, row: ImageRow) -> bool:
    """Write a row that was read at `row.generation`; False when it has changed or gone since."""
    if not await tx.execute(_UPDATE, _params(row)):
        return False
    await tx.execute(_FORGET, {"image_id": row.id})
    await _facts(tx, row)
    return True


async def delete(tx: Tx, row: ImageRow) -> bool:
    """Delete what was read at `row.generation`, with its members; False when it has changed or gone since."""
    if not await tx.execute(_DELETE, {"id": row.id, "generation": row.generation}):
        return False
    await tx.execute(_FORGET, {"image_id": row.id})
    await tx.execute(_DROP_MEMBERS, {"id": row.id})
    return True


async def add_member(tx: Tx, image_id: str, member: str, now: int) -> bool:
    """False when it is one already."""
    return await tx.insert_if_absent(_ADD_MEMBER, {"id": image_id, "member": member, "status": "pending", "now": now})


async def set_member(tx: Tx, image_id: str, member: str, status: str, now: int) -> bool:
    """False when there is no such member."""
    return await tx.execute(_SET_MEMBER, {"id": image_id, "member": member, "status": status, "now": now}) == 1


async def drop_member(tx: Tx, image_id: str, member: str) -> bool:
    """False when there was no such member."""
    return await tx.execute(_DROP_MEMBER, {"id": image_id, "member": member}) == 1

