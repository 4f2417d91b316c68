"""What an image's attributes may be, and who may set which. Source: Glance's API reference, image v2.

Free-form properties are strings; the rest is declared here once, for create, patch and the schema documents.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from kilonova.db.queries.images import ImageRow
from kilonova.http.errors import BadRequest, Forbidden, TooLarge
from kilonova.image.service import ImageLimits
from kilonova.model.credentials import Credentials

CONTAINER_FORMATS = ("ami", "ari", "aki", "bare", "ovf", "ova", "docker", "compressed")
DISK_FORMATS = ("ami", "ari", "aki", "vhd", "vhdx", "vmdk", "raw", "qcow2", "vdi", "iso", "ploop")
VISIBILITIES = ("community", "public", "private", "shared")
READ_ONLY = frozenset({
    "created_at", "updated_at", "status", "checksum", "size", "virtual_size", "direct_url", "self", "file", "schema",
    "id", "os_hash_algo", "os_hash_value",
})  # fmt: skip
NOT_AT_CREATE = READ_ONLY - {"id"} | {"stores"}
RESERVED = frozenset({"location", "deleted", "deleted_at"})
RESERVED_PREFIX = "os_glance"
UUID = re.compile(r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\Z")
_MAX_INT = (1 << 31) - 1
_MAX_PROPERTIES = 64 << 10


def _string(value: Any, name: str, most: int) -> str:
    if not isinstance(value, str):
        raise BadRequest(f"Attribute '{name}' must be a string.")
    if len(value) > most:
        raise BadRequest(f"Attribute '{name}' has more than {most} characters.")
    return value


def _text(most: int) -> Any:
    return lambda value, name: None if value is None else _string(value, name, most)


def _choice(*choices: str | None) -> Any:
    def check(value: Any, name: str) -> Any:
        if value not in choices or isinstance(value, bool):
            raise BadRequest(f"Attribute '{name}' must be one of {', '.join(map(str, choices))}.")
        return value

    return check


def _number(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MAX_INT:
        raise BadRequest(f"Attribute '{name}' must be an integer from 0 to {_MAX_INT}.")
    return value


def _flag(value: Any, name: str) -> int:
    if not isinstance(value, bool):
        raise BadRequest(f"Attribute '{name}' must be true or false.")
    return int(value)


def _tags(value: Any, name: str) -> list[str]:
    if not isinstance(value, list):
        raise BadRequest("Attribute 'tags' must be a list of strings.")
    return sorted({_string(each, "tags", 255) for each in value})


# Attribute -> (column, check).
SETTABLE: dict[str, tuple[str, Any]] = {
    "name": ("name", _text(255)),
    "visibility": ("visibility", _choice(*VISIBILITIES)),
    "container_format": ("container_format", _choice(*CONTAINER_FORMATS, None)),
    "disk_format": ("disk_format", _choice(*DISK_FORMATS, None)),
    "min_disk": ("min_disk", _number),
    "min_ram": ("min_ram", _number),
    "protected": ("protected", _flag),
    "os_hidden": ("hidden", _flag),
    "owner": ("owner", _text(255)),
    "tags": ("tags", _tags),
}


def check_name(name: str) -> None:
    """Refuse what no caller may set. Raises Forbidden, BadRequest."""
    if name in RESERVED or name.startswith(RESERVED_PREFIX):
        raise Forbidden(f"Attribute '{name[:255]}' is reserved.")
    if name == "locations":
        raise Forbidden("Locations of images are not shown and can't be set here; upload the data.")
    if not name or len(name) > 255:
        raise BadRequest("The name of a property has 1 to 255 characters.")


def set_attribute(row: ImageRow, name: str, value: Any, creds: Credentials) -> None:
    """Set one attribute of a row after all checks. Raises BadRequest, Forbidden."""
    declared = SETTABLE.get(name)
    if declared is None:
        row.properties = {**row.properties, name: _string(value, name, 65535)}
        return
    column, check = declared
    checked = check(value, name)
    if name == "owner":
        if checked != row.owner and not creds.is_admin:
            raise Forbidden("Only an admin gives an image to another project.")
        checked = checked or ""
    if name == "visibility" and checked == "public" and row.visibility != "public" and not creds.is_admin:
        raise Forbidden("Only an admin makes images public.")
    if name in ("container_format", "disk_format") and row.status != "queued" and checked != getattr(row, column):
        raise Forbidden(f"Attribute {name} can be replaced only for a queued image.")
    setattr(row, column, checked)


def check_limits(row: ImageRow, limits: ImageLimits) -> None:
    """Raises TooLarge."""
    for what, count, most in (
        ("properties", len(row.properties), limits.properties),
        ("tags", len(row.tags), limits.tags),
    ):
        if 0 <= most < count:
            raise TooLarge(f"The limit of {most} {what} an image is exceeded: {count} were given.")
    if sum(len(k) + len(v) for k, v in row.properties.items()) > _MAX_PROPERTIES:
        raise TooLarge(f"The properties of an image may have {_MAX_PROPERTIES} characters in all.")


def new_row(body: Mapping[str, Any], creds: Credentials, image_id: str, now: int, limits: ImageLimits) -> ImageRow:
    """An image as a create asks for it. Raises BadRequest, Forbidden, TooLarge."""
    given = body.get("id")
    if given is not None:
        if not isinstance(given, str) or not UUID.match(given):
            raise BadRequest("Attribute 'id' must be a UUID.")
        image_id = given.lower()
    row = ImageRow(id=image_id, owner=creds.project_id or "", created_at=now, updated_at=now)
    for name, value in body.items():
        if name == "id":
            continue
        if name in NOT_AT_CREATE:
            raise Forbidden(f"Attribute '{name}' is read-only.")
        check_name(name)
        set_attribute(row, name, value, creds)
    check_limits(row, limits)
    return row
