"""The version documents, which need no token: what is served where, and the range of microversions."""

from __future__ import annotations

from typing import Any

from kilonova.api.microversion.version import LATEST, OLDEST, spell

_FACTS: dict[str, dict[str, str]] = {
    "v2.0": {"status": "DEPRECATED", "version": "", "min_version": "", "updated": "2011-01-21T11:33:21Z"},
    "v2.1": {
        "status": "CURRENT",
        "version": spell(LATEST),
        "min_version": spell(OLDEST),
        "updated": "2013-07-23T11:33:21Z",
    },
}


def _mount(version: str) -> str:
    return "v2.1" if version == "v2.1" else "v2"


def _media(version: str) -> list[dict[str, str]]:
    number = "2.1" if version == "v2.1" else "2"
    return [{"base": "application/json", "type": f"application/vnd.openstack.compute+json;version={number}"}]


def all_versions(base: str) -> dict[str, Any]:
    """``GET /``; `base` is the face's URL without a trailing slash."""
    return {
        "versions": [
            {"id": name, **facts, "links": [{"rel": "self", "href": f"{base}/{_mount(name)}/"}]}
            for name, facts in _FACTS.items()
        ]
    }


def one_version(base: str, name: str) -> dict[str, Any]:
    """``GET /v2.1/``; `name` is ``v2.0`` or ``v2.1``."""
    links = [
        {"rel": "self", "href": f"{base}/{_mount(name)}/"},
        {"rel": "describedby", "type": "text/html", "href": "http://docs.openstack.org/"},
    ]
    return {"version": {"id": name, **_FACTS[name], "links": links, "media-types": _media(name)}}


def choices(base: str, path: str) -> dict[str, Any]:
    """The 300 for a path under no version."""
    return {
        "choices": [
            {
                "id": name,
                "status": facts["status"],
                "links": [{"rel": "self", "href": f"{base}/{_mount(name)}{path}"}],
                "media-types": _media(name),
            }
            for name, facts in _FACTS.items()
        ]
    }
