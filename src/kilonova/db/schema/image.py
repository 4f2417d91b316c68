"""Global tables of the embedded image service: images, who may see shared ones, what can be searched exactly."""

from __future__ import annotations

from sqlalchemy import Index, Table

from kilonova.db.schema.metadata import global_tables
from kilonova.db.schema.types import bigint, json, text, time, uuid

images = Table(
    "images", global_tables,
    uuid("id", primary_key=True),
    text("owner", 191),  # project id
    text("name", nullable=True),
    text("status", 16),  # queued saving uploading active deactivated
    text("visibility", 16),  # public private shared community
    text("container_format", 20, nullable=True),
    text("disk_format", 20, nullable=True),
    bigint("size", nullable=True),  # bytes of the file
    bigint("virtual_size", nullable=True),  # bytes of the disk in it
    text("checksum", 32, nullable=True),  # md5
    text("hash_algo", 64, nullable=True),
    text("hash_value", 128, nullable=True),
    bigint("min_disk"),  # GiB
    bigint("min_ram"),  # MiB
    bigint("protected"),
    bigint("hidden"),
    json("properties"),
    json("tags"),
    text("file", 128, nullable=True),  # its name in the store
    text("upload", 36, nullable=True),  # the upload that may end in this row
    json("staged", nullable=True),  # what was staged and its import
    bigint("generation"),
    time("created_at"),
    time("updated_at"),
    Index("images_owner", "owner", "created_at", "id"),
    Index("images_visibility", "visibility", "created_at", "id"),
    Index("images_created", "created_at", "id"),
)  # fmt: skip

# A tag, or a property with its value, as SHA-256: what lists filter by.
image_facts = Table(
    "image_facts", global_tables,
    text("fact", 64, primary_key=True),
    uuid("image_id", primary_key=True),
    Index("image_facts_image", "image_id"),
)  # fmt: skip

image_members = Table(
    "image_members", global_tables,
    uuid("image_id", primary_key=True),
    text("member_id", 191, primary_key=True),
    text("status", 10),  # pending accepted rejected
    time("created_at"),
    time("updated_at"),
    Index("image_members_member", "member_id", "status"),
)  # fmt: skip
