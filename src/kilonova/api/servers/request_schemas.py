"""Schemas of what a server is asked to be made of. Facts: the Compute API reference, POST /servers."""

from __future__ import annotations

from kilonova.api.microversion.schemas import (
    ANY,
    BOOLEAN,
    IP,
    MAX_INT,
    NAME,
    TAG,
    TEXT,
    UUID,
    Schema,
    array,
    obj,
)

FLAVOR_REF: Schema = {"type": ["string", "integer"], "minLength": 1, "maxLength": 255, "minimum": 0, "maximum": MAX_INT}
IMAGE_REF: Schema = {"oneOf": [UUID, {"type": "string", "maxLength": 0}]}
USER_DATA: Schema = {"type": "string", "format": "base64", "maxLength": 65535}
SECURITY_GROUPS: Schema = array(obj(name=NAME))
PERSONALITY: Schema = array(obj(path=TEXT, contents={"type": "string", "format": "base64"}))
TRUSTED_CERTIFICATES: Schema = {
    "type": ["array", "null"], "minItems": 1, "maxItems": 50, "uniqueItems": True,
    "items": {"type": "string", "minLength": 1},
}  # fmt: skip
_PORT: Schema = {"type": ["string", "null"], "format": "uuid"}


def networks(*, tag: bool) -> Schema:
    """The list form below 2.37."""
    more = {"tag": TAG} if tag else {}
    return array(obj(fixed_ip=IP, port=_PORT, uuid=TEXT, **more))


def networks_or_word(*, tag: bool) -> Schema:
    """The list, or `auto` or `none`, from 2.37."""
    more = {"tag": TAG} if tag else {}
    return {
        "oneOf": [
            array(obj(fixed_ip=IP, port=_PORT, uuid=UUID, **more)),
            {"type": "string", "enum": ["none", "auto"]},
        ]
    }


_LEGACY: dict[str, Schema] = {
    "virtual_name": {"type": "string", "maxLength": 255},
    "volume_id": UUID,
    "snapshot_id": UUID,
    "volume_size": {
        "type": ["integer", "string"], "pattern": "^[0-9]+$", "minimum": 1, "maximum": MAX_INT, "format": "number>=1",
    },
    "device_name": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[a-zA-Z0-9._/-]*$"},
    "delete_on_termination": BOOLEAN,
    "no_device": ANY,
    "connection_info": {"type": "string", "maxLength": 16777215},
}  # fmt: skip
LEGACY_DEVICES: Schema = array(obj(**_LEGACY))


def devices(*, tag: bool = False, volume_type: bool = False) -> Schema:
    """block_device_mapping_v2."""
    items: dict[str, Schema] = {
        **_LEGACY,
        "source_type": {"type": "string", "enum": ["volume", "image", "snapshot", "blank"]},
        "uuid": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[a-zA-Z0-9._-]*$"},
        "image_id": UUID,
        "destination_type": {"type": "string", "enum": ["local", "volume"]},
        "guest_format": {"type": "string", "maxLength": 255},
        "device_type": {"type": "string", "maxLength": 255},
        "disk_bus": {"type": "string", "maxLength": 255},
        "boot_index": {"type": ["integer", "string", "null"], "pattern": "^-?[0-9]+$"},
    }
    if tag:
        items["tag"] = TAG
    if volume_type:
        items["volume_type"] = {"type": ["string", "null"], "minLength": 0, "maxLength": 255}
    return array(obj(**items))


_SERVERS: Schema = {"oneOf": [UUID, array(UUID)]}
HINTS: Schema = {
    "type": "object",
    "properties": {
        "group": _SERVERS,
        "different_host": _SERVERS,
        "same_host": {"type": ["string", "array"], "items": UUID},
        "query": {"type": ["string", "object"]},
        "target_cell": NAME,
        "different_cell": {"type": ["string", "array"], "items": TEXT},
        "build_near_host_ip": IP,
        "cidr": {"type": "string", "pattern": "^/[0-9a-f.:]+$"},
    },
    "additionalProperties": True,
}
