"""Schemas of values that many resources take. Facts: the Compute API reference."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]
MAX_INT = 0x7FFFFFFF

ANY: Schema = {}
TEXT: Schema = {"type": "string"}
BOOLEAN: Schema = {
    "type": ["boolean", "string"],
    "enum": [
        True, "True", "TRUE", "true", "1", "ON", "On", "on", "YES", "Yes", "yes",
        False, "False", "FALSE", "false", "0", "OFF", "Off", "off", "NO", "No", "no",
    ],
}  # fmt: skip
_TRUE = {True, "true", "1", "on", "yes"}

NAME: Schema = {"type": "string", "format": "name", "minLength": 1, "maxLength": 255}
LOOSE_NAME: Schema = {"type": "string", "format": "loose-name", "minLength": 1, "maxLength": 255}
ZONE_NAME: Schema = {"type": "string", "format": "az-name", "minLength": 1, "maxLength": 255}
NAME_OR_NULL: Schema = {"type": ["string", "null"], "minLength": 1, "maxLength": 255}
DESCRIPTION: Schema = {
    "type": ["string", "null"], "minLength": 0, "maxLength": 255, "pattern": r"^[^\p{C}\p{Zl}\p{Zp}]*$",
}  # fmt: skip
UUID: Schema = {"type": "string", "format": "uuid"}
ID: Schema = {"type": "string", "pattern": "^[a-zA-Z0-9-]*$", "minLength": 1, "maxLength": 255}
HOSTNAME: Schema = {
    "type": "string", "pattern": "^[a-zA-Z0-9]+[a-zA-Z0-9-]*[a-zA-Z0-9]+$", "minLength": 2, "maxLength": 63,
}  # fmt: skip
FQDN: Schema = {"type": "string", "pattern": "^[a-zA-Z0-9-._]*$", "minLength": 1, "maxLength": 255}
METADATA: Schema = {
    "type": "object",
    "patternProperties": {"^[a-zA-Z0-9-_:. ]{1,255}$": {"type": "string", "maxLength": 255}},
    "additionalProperties": False,
}
TAG: Schema = {"type": "string", "pattern": "^[^,/]*$", "minLength": 1, "maxLength": 60}
TAGS: Schema = {"type": "array", "items": TAG, "maxItems": 50}
DISK_CONFIG: Schema = {"type": "string", "enum": ["AUTO", "MANUAL"]}
IPV4: Schema = {"type": "string", "format": "ipv4"}
IPV6: Schema = {"type": "string", "format": "ipv6"}
IP: Schema = {"type": "string", "oneOf": [{"format": "ipv4"}, {"format": "ipv6"}]}
DATE: Schema = {"type": "string", "format": "date-time"}
QUERY_COUNT: Schema = {"type": "string", "pattern": "^[0-9]*$", "minLength": 1, "maxLength": 20}


def number(lowest: int, highest: int = MAX_INT) -> Schema:
    """A whole number, or the same as a text."""
    return {
        "type": ["integer", "string"], "pattern": "^-?[0-9]+$" if lowest < 0 else "^[0-9]+$", "minLength": 1,
        "minimum": lowest, "maximum": highest, "format": f"number>={lowest}",
    }  # fmt: skip


def as_bool(value: Any) -> bool:
    """What a `BOOLEAN` means."""
    return (value.lower() if isinstance(value, str) else value) in _TRUE


def obj(required: tuple[str, ...] = (), /, **properties: Schema) -> Schema:
    """A closed object."""
    made: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
    if required:
        made["required"] = list(required)
    return made


def array(items: Schema, **more: Any) -> Schema:
    """A list of `items`."""
    return {"type": "array", "items": items, **more}
