"""JSON patches of images: Glance's two media types, one level deep.

``application/openstack-images-v2.1-json-patch``: ``{"op", "path", "value"}``; v2.0: ``{"replace": path, "value"}``.
"""

from __future__ import annotations

import re
from typing import Any

from msgspec import Struct

from kilonova.db.queries.images import ImageRow
from kilonova.http.errors import BadRequest, Conflict, Forbidden
from kilonova.image.attributes import READ_ONLY, SETTABLE, check_name, set_attribute
from kilonova.model.credentials import Credentials

MEDIA_V21 = "application/openstack-images-v2.1-json-patch"
MEDIA_V20 = "application/openstack-images-v2.0-json-patch"
_OPS = ("add", "remove", "replace")
_BAD_TILDE = re.compile(r"~(?![01])")


class Change(Struct, frozen=True):
    """One operation on one attribute."""

    op: str
    name: str
    value: Any = None


def parse(body: Any, media: str) -> list[Change]:
    """The operations of a body, in order. Raises BadRequest, Forbidden (read-only or reserved)."""
    if not isinstance(body, list):
        raise BadRequest("Request body must be a JSON array of operation objects.")
    return [_change(each, media) for each in body]


def _change(raw: Any, media: str) -> Change:
    if not isinstance(raw, dict):
        raise BadRequest("Operations must be JSON objects.")
    if media == MEDIA_V21:
        op, path = raw.get("op"), raw.get("path")
        if op not in _OPS or not isinstance(op, str):
            raise BadRequest(f"Invalid operation: `{str(op)[:50]}`. It must be one of {', '.join(_OPS)}.")
    else:
        found = [op for op in _OPS if op in raw]
        if len(found) != 1:
            raise BadRequest('An operation object has exactly one member named "add", "remove" or "replace".')
        op = found[0]
        path = raw[op]
    name = _pointer(path)
    if name in READ_ONLY:
        raise Forbidden(f"Attribute '{name}' is read-only.")
    check_name(name)
    if op == "remove":
        return Change(op, name)
    if "value" not in raw:
        raise BadRequest(f'Operation "{op}" requires a member named "value".')
    return Change(op, name, raw["value"])


def _pointer(path: Any) -> str:
    if not isinstance(path, str) or not path.startswith("/"):
        raise BadRequest(f"Pointer `{str(path)[:255]}` does not start with \"/\".")
    if _BAD_TILDE.search(path):
        raise BadRequest(f'Pointer `{path[:255]}` contains "~" not part of a recognized escape sequence.')
    parts = [part.replace("~1", "/").replace("~0", "~").strip() for part in path[1:].split("/")]
    if len(parts) != 1 and parts[0] != "locations":
        raise BadRequest(f"Invalid JSON pointer for this resource: '{path[:255]}'")
    return parts[0]


def apply(row: ImageRow, changes: list[Change], creds: Credentials) -> None:
    """Change a row. Raises BadRequest, Conflict (there is nothing to replace or remove), Forbidden."""
    for change in changes:
        custom = change.name not in SETTABLE
        if change.op == "remove":
            if not custom:
                raise Forbidden(f"Property {change.name} may not be removed.")
            if change.name not in row.properties:
                raise Conflict(f"Property {change.name} does not exist.")
            row.properties = {name: value for name, value in row.properties.items() if name != change.name}
            continue
        if change.op == "replace" and custom and change.name not in row.properties:
            raise Conflict(f"Property {change.name} does not exist.")
        set_attribute(row, change.name, change.value, creds)
