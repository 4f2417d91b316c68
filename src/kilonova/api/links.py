"""The links of answers: self (with version) and bookmark (without), with the project where the request had it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import quote, urlencode


def _quoted(item: str) -> str:
    return item if item.isascii() and item.replace("-", "").isalnum() else quote(item, safe="")


class Base:
    """Where the caller reached us: ``http://host/compute`` + ``/v2.1`` [+ ``/project``]."""

    __slots__ = ("bookmark", "path", "plain", "root")

    def __init__(self, host_url: str, mount: str, version: str, project: str) -> None:
        below = f"/{project}" if project else ""
        self.plain = f"{host_url}{mount}"
        self.root = f"{self.plain}/{version}{below}"
        self.bookmark = f"{self.plain}{below}"
        self.path = f"{mount}/{version}{below}"

    def __repr__(self) -> str:
        return f"Base({self.root!r})"

    def links(self, collection: str, item: str) -> list[dict[str, str]]:
        """The two links of an item."""
        name = _quoted(item)
        return [
            {"rel": "self", "href": f"{self.root}/{collection}/{name}"},
            {"rel": "bookmark", "href": f"{self.bookmark}/{collection}/{name}"},
        ]

    def bookmarks(self, collection: str, item: str) -> list[dict[str, str]]:
        """The bookmark alone."""
        return [{"rel": "bookmark", "href": f"{self.bookmark}/{collection}/{_quoted(item)}"}]

    def next_page(self, path: str, query: Iterable[tuple[str, str]], marker: str) -> list[dict[str, Any]]:
        """The link to the page after `marker`."""
        kept = [(name, value) for name, value in query if name != "marker"]
        return [{"rel": "next", "href": f"{self.root}{path}?{urlencode([*kept, ('marker', marker)])}"}]
