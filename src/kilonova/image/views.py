"""Images, members and tasks as Glance shows them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from kilonova.db.queries.images import ImageRow, Member
from kilonova.image.service import Staged


def iso(micros: int) -> str:
    """``2026-01-31T09:00:00Z``."""
    return datetime.fromtimestamp(micros // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def image(row: ImageRow) -> dict[str, Any]:
    """The body of a show, and an element of a list."""
    path = f"/v2/images/{row.id}"
    return {
        **row.properties,
        "id": row.id,
        "name": row.name,
        "status": row.status,
        "visibility": row.visibility,
        "owner": row.owner or None,
        "protected": bool(row.protected),
        "os_hidden": bool(row.hidden),
        "container_format": row.container_format,
        "disk_format": row.disk_format,
        "size": row.size,
        "virtual_size": row.virtual_size,
        "checksum": row.checksum,
        "os_hash_algo": row.hash_algo,
        "os_hash_value": row.hash_value,
        "min_disk": row.min_disk,
        "min_ram": row.min_ram,
        "created_at": iso(row.created_at),
        "updated_at": iso(row.updated_at),
        "tags": row.tags,
        "self": path,
        "file": f"{path}/file",
        "schema": "/v2/schemas/image",
    }


def member(found: Member) -> dict[str, Any]:
    return {
        "member_id": found.member,
        "image_id": found.image_id,
        "status": found.status,
        "created_at": iso(found.created_at),
        "updated_at": iso(found.updated_at),
        "schema": "/v2/schemas/member",
    }


def tasks(row: ImageRow) -> list[dict[str, Any]]:
    """The import of an image's data as a task, when it came by one."""
    if row.staged is None:
        return []
    staged = msgspec.json.decode(row.staged, type=Staged)
    if staged.task is None:
        return []
    moment = iso(staged.finished_at)
    return [
        {
            "id": staged.task, "type": "api_image_import", "status": "success", "owner": row.owner,
            "image_id": row.id, "user_id": staged.user_id, "request_id": staged.request_id,
            "input": {"image_id": row.id, "import_req": {"method": {"name": "glance-direct"}}},
            "result": {"image_id": row.id}, "message": "", "created_at": moment, "updated_at": moment,
            "expires_at": None, "self": f"/v2/tasks/{staged.task}", "schema": "/v2/schemas/task",
        }
    ]  # fmt: skip
