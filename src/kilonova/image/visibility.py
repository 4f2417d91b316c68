"""Who may see, use and change an image. Pure."""

from __future__ import annotations

from kilonova.db.queries.images import ImageRow
from kilonova.model.credentials import Credentials


def is_owner(row: ImageRow, creds: Credentials) -> bool:
    """Whether the image belongs to the caller's project; an admin counts as the owner of all."""
    return creds.is_admin or (creds.project_id is not None and row.owner == creds.project_id)


def sees(row: ImageRow, creds: Credentials, is_member: bool) -> bool:
    """Whether the image exists for the caller. `is_member`: it was shared with the caller's project."""
    if is_owner(row, creds) or row.visibility in ("public", "community"):
        return True
    return row.visibility == "shared" and is_member


def may_write(creds: Credentials) -> bool:
    """Whether the caller's role allows changes at all: readers only look."""
    return bool({"admin", "member"} & creds.roles)
