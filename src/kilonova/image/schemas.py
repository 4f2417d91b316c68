"""The schema documents of the image API, made from the declarations in `attributes`."""

from __future__ import annotations

from typing import Any

from kilonova.image.attributes import CONTAINER_FORMATS, DISK_FORMATS, VISIBILITIES

_STATUSES = ["queued", "saving", "active", "killed", "deleted", "uploading", "importing", "pending_delete",
             "deactivated"]  # fmt: skip
_UUID = "^([0-9a-fA-F]){8}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){12}$"


def _told(kind: Any, text: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "description": text, "readOnly": True, **more}


def _free(kind: Any, text: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "description": text, **more}


_MAYBE = ["null", "string"]
_PROPERTIES: dict[str, Any] = {
    "id": _free("string", "The image's identifier", pattern=_UUID),
    "name": _free(_MAYBE, "A name for people", maxLength=255),
    "status": _told("string", "Where the image is in its life", enum=_STATUSES),
    "visibility": _free("string", "Who can reach the image", enum=list(VISIBILITIES)),
    "protected": _free("boolean", "Whether the image refuses to be deleted"),
    "os_hidden": _free("boolean", "Whether lists leave the image out unless asked for it"),
    "checksum": _told(_MAYBE, "MD5 of the data", maxLength=32),
    "os_hash_algo": _told(_MAYBE, "The algorithm of os_hash_value", maxLength=64),
    "os_hash_value": _told(_MAYBE, "Hash of the data in hexadecimal", maxLength=128),
    "owner": _free(_MAYBE, "The project that owns the image", maxLength=255),
    "size": _told(["null", "integer"], "Bytes of data"),
    "virtual_size": _told(["null", "integer"], "Bytes of the disk that the data describes"),
    "container_format": _free(_MAYBE, "What is around the disk", enum=[None, *CONTAINER_FORMATS]),
    "disk_format": _free(_MAYBE, "The format of the disk", enum=[None, *DISK_FORMATS]),
    "created_at": _told("string", "When the image was registered"),
    "updated_at": _told("string", "When the image was last changed"),
    "tags": _free("array", "Words to find the image by", items={"type": "string", "maxLength": 255}),
    "min_ram": _free("integer", "MiB of memory needed to boot it"),
    "min_disk": _free("integer", "GiB of disk needed to boot it"),
    "self": _told("string", "Where the image is"),
    "file": _told("string", "Where its data is"),
    "schema": _told("string", "Where this schema is"),
}

IMAGE: dict[str, Any] = {
    "name": "image",
    "properties": _PROPERTIES,
    "additionalProperties": {"type": "string"},
    "links": [
        {"rel": "self", "href": "{self}"},
        {"rel": "enclosure", "href": "{file}"},
        {"rel": "describedby", "href": "{schema}"},
    ],
}
MEMBER: dict[str, Any] = {
    "name": "member",
    "properties": {
        "created_at": _told("string", "When the image was shared"),
        "updated_at": _told("string", "When the membership last changed"),
        "image_id": _free("string", "The image", pattern=_UUID),
        "member_id": _free("string", "The project it is shared with"),
        "status": _free("string", "What the member says to it", enum=["pending", "accepted", "rejected"]),
        "schema": _told("string", "Where this schema is"),
    },
}


def collection(name: str, item: dict[str, Any]) -> dict[str, Any]:
    """The schema of a list of `item`."""
    properties: dict[str, Any] = {name: {"type": "array", "items": item}, "schema": {"type": "string"}}
    found: dict[str, Any] = {
        "name": name, "properties": properties, "links": [{"rel": "describedby", "href": "{schema}"}]
    }  # fmt: skip
    if name == "images":
        properties |= {"first": {"type": "string"}, "next": {"type": "string"}}
        found["links"] += [{"rel": "first", "href": "{first}"}, {"rel": "next", "href": "{next}"}]
    return found


SCHEMAS: dict[str, dict[str, Any]] = {
    "image": IMAGE,
    "images": collection("images", IMAGE),
    "member": MEMBER,
    "members": collection("members", MEMBER),
}
