"""What a flavor is on the wire."""

from __future__ import annotations

from typing import Any

from kilonova.api.microversion import schemas as s
from kilonova.api.microversion.fields import Field, In, Out, Resource

EXTRA_SPECS = "extra_specs"
"""The view's flag: extra specs may be shown."""
DESCRIPTION = {"type": ["string", "null"], "minLength": 0, "maxLength": 65535, "pattern": s.DESCRIPTION["pattern"]}
_ID = {
    "type": ["string", "number", "null"], "minLength": 1, "maxLength": 255, "minimum": -s.MAX_INT, "maximum": s.MAX_INT,
    "pattern": "^(?! )[a-zA-Z0-9. _-]+(?<! )$",
}  # fmt: skip
_FACTOR = {
    "type": ["number", "string"], "pattern": r"^[0-9]+(\.[0-9]+)?$", "exclusiveMinimum": 0, "maximum": 3.40282e38,
    "maxLength": 40,
}  # fmt: skip


def _whole(get: Any, **span: Any) -> dict[str, Any]:
    return {"show": Out(get, **span)}


def _everywhere(get: Any, **span: Any) -> dict[str, Any]:
    return {"show": Out(get, **span), "brief": Out(get, **span)}


FLAVOR = Resource(
    "flavor",
    [
        Field("id", **_everywhere(lambda v, _: v.flavor_id), create=In(_ID)),
        Field("name", **_everywhere(lambda v, _: v.name), create=In(s.NAME, required=True)),
        Field("links", **_everywhere(lambda v, base: base.links("flavors", v.flavor_id))),
        Field("ram", **_whole(lambda v, _: v.memory_mb), create=In(s.number(1), required=True)),
        Field("vcpus", **_whole(lambda v, _: v.vcpus), create=In(s.number(1), required=True)),
        Field("disk", **_whole(lambda v, _: v.root_gb), create=In(s.number(0), required=True)),
        Field(
            "OS-FLV-EXT-DATA:ephemeral", **_whole(lambda v, _: v.ephemeral_gb), create=In(s.number(0)),
        ),
        Field("swap", **_whole(lambda v, _: v.swap_mb or "", until=74), create=In(s.number(0))),
        Field("swap", since=75, **_whole(lambda v, _: v.swap_mb)),
        Field("rxtx_factor", until=101, **_whole(lambda v, _: v.rxtx_factor), create=In(_FACTOR)),
        Field("OS-FLV-DISABLED:disabled", until=101, **_whole(lambda v, _: bool(v.disabled))),
        Field(
            "os-flavor-access:is_public", **_whole(lambda v, _: bool(v.is_public)), create=In(s.BOOLEAN),
        ),
        Field(
            "description", since=55, **_everywhere(lambda v, _: v.description), create=In(DESCRIPTION),
            change=In(DESCRIPTION, required=True),
        ),
        Field("extra_specs", since=61, **_whole(lambda v, _: v.extra_specs, flag=EXTRA_SPECS)),
    ],
)  # fmt: skip
SHOW, BRIEF = FLAVOR.view("show"), FLAVOR.view("brief")
