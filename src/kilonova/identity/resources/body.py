"""Reading request bodies: each function takes what it wants of a JSON object or says what is wrong with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from kilonova.http.errors import BadRequest

MISSING: Any = object()
_EXTRA_BYTES = 32_768


def mapping(value: Any, name: str, at: str | None = None) -> dict[str, Any]:
    """`value` (or its member `at`) as an object."""
    if at is not None:
        value = value.get(at, MISSING)
        if value is MISSING:
            raise BadRequest(f"Expecting to find {at} in request body. Send a JSON object with it.")
    if not isinstance(value, dict):
        raise BadRequest(f"Invalid input for {name!r}: it must be a JSON object.")
    return value


def optional_mapping(body: Mapping[str, Any], name: str) -> dict[str, Any]:
    """An object that may be missing or null."""
    value = body.get(name)
    return {} if value is None else mapping(value, name)


def text(body: Mapping[str, Any], name: str, default: Any = MISSING, *, most: int = 255, least: int = 0) -> Any:
    """A text member of `least` to `most` characters; required unless there is a default."""
    value = body.get(name, MISSING)
    if value is MISSING:
        if default is MISSING:
            raise BadRequest(f"{name!r} is a required property.")
        return default
    if value is None and default is None:
        return None
    if not isinstance(value, str):
        raise BadRequest(f"Invalid input for {name!r}: it must be a string.")
    if not least <= len(value) <= most or (least and not value.strip()):
        raise BadRequest(f"Invalid input for {name!r}: it must have {least} to {most} characters and not be blank.")
    return value


def name_of(body: Mapping[str, Any], default: Any = MISSING, *, most: int = 255) -> Any:
    """The member `name`: not blank."""
    return text(body, "name", default, most=most, least=1)


def description(body: Mapping[str, Any], default: str = "") -> str:
    """The member `description`; null is empty."""
    value: str | None = text({"description": default, **body}, "description", None, most=4096)
    return value or ""


def flag(body: Mapping[str, Any], name: str, default: bool = False) -> bool:
    """A boolean member."""
    value = body.get(name, default)
    if not isinstance(value, bool):
        raise BadRequest(f"Invalid input for {name!r}: it must be true or false.")
    return value


def number(body: Mapping[str, Any], name: str, default: Any = MISSING) -> Any:
    """A whole number from -1 to 2^31-1."""
    value = body.get(name, default)
    if value is MISSING:
        raise BadRequest(f"{name!r} is a required property.")
    if isinstance(value, bool) or not isinstance(value, int) or not -1 <= value < 1 << 31:
        raise BadRequest(f"Invalid input for {name!r}: it must be a whole number, -1 for no limit.")
    return value


def listing(body: Mapping[str, Any], name: str, default: Any = MISSING, *, most: int = 1000) -> list[Any]:
    """A list member."""
    value = body.get(name, default)
    if value is MISSING:
        raise BadRequest(f"{name!r} is a required property.")
    if not isinstance(value, list) or len(value) > most:
        raise BadRequest(f"Invalid input for {name!r}: it must be a list of at most {most} items.")
    return value


def options(body: Mapping[str, Any]) -> dict[str, Any]:
    """A user's options: kept, at most 4 kB, and shown again."""
    found = optional_mapping(body, "options")
    if len(msgspec.json.encode(found)) > 4096:
        raise BadRequest("Invalid input for 'options': at most 4096 bytes are kept.")
    return found


def tags(values: Iterable[Any]) -> tuple[str, ...]:
    """Project tags: unique texts of 1 to 255 characters without comma and slash, at most 80."""
    found: dict[str, None] = {}
    for value in values:
        if not isinstance(value, str) or not 0 < len(value) <= 255 or set(value) & set(",/\x00"):
            raise BadRequest("Invalid input for 'tags': each is 1 to 255 characters without comma or slash.")
        found[value] = None
    if len(found) > 80:
        raise BadRequest("Invalid input for 'tags': at most 80 tags are kept.")
    return tuple(found)


def rest(body: Mapping[str, Any], known: Iterable[str], before: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What is not ours: kept as it is, laid over what was `before`; at most 32 kB."""
    ours = {*known, "id", "links"}
    kept = {**(before or {}), **{key: value for key, value in body.items() if key not in ours}}
    if len(msgspec.json.encode(kept)) > _EXTRA_BYTES:
        raise BadRequest(f"Additional properties are limited to {_EXTRA_BYTES} bytes.")
    return kept


def same_id(body: Mapping[str, Any], id_: str) -> None:
    """An update may name its own id only."""
    if body.get("id", id_) != id_:
        raise BadRequest("Cannot change the id: it does not match the URL.")
