"""Routes as data: path templates compiled into a tree of segments, looked up in one pass.

``Route("GET", "/servers/{id}", handler)``. A literal segment wins over a parameter. ``{name*}`` at the
end takes the rest of the path. No regular expression: a path that fails has one explainable reason.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from kilonova.http.errors import MethodNotAllowed, NotFound
from kilonova.http.message import Request, Response

Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Route:
    """One method on one path template."""

    method: str
    path: str
    handler: Handler
    auth: bool = True
    """Whether a valid token is required before the handler runs."""
    data: Any = None
    """The face's own declaration behind the route."""


@dataclass(slots=True)
class _Node:
    literal: dict[str, _Node] = field(default_factory=dict)
    param: _Node | None = None
    rest: dict[str, tuple[Route, tuple[str, ...]]] | None = None
    routes: dict[str, tuple[Route, tuple[str, ...]]] | None = None


class Router:
    """A compiled table of routes."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes = tuple(routes)
        self._root = _Node()
        for route in self.routes:
            self._add(route)

    def _add(self, route: Route) -> None:
        node, names = self._root, []
        for segment in route.path.strip("/").split("/") if route.path.strip("/") else []:
            if segment.startswith("{") and segment.endswith("*}"):
                names.append(segment[1:-2])
                node.rest = node.rest or {}
                node.rest[route.method] = (route, tuple(names))
                return
            if segment.startswith("{"):
                names.append(segment[1:-1])
                node.param = node.param or _Node()
                node = node.param
            else:
                node = node.literal.setdefault(segment, _Node())
        node.routes = node.routes or {}
        if route.method in node.routes:
            raise ValueError(f"two routes for {route.method} {route.path}")
        node.routes[route.method] = (route, tuple(names))

    def find(self, request: Request, path: str) -> Route:
        """The route of `path` (below the mount); fills `request.params`. NotFound, MethodNotAllowed."""
        trimmed = path.strip("/")
        parts = trimmed.split("/") if trimmed else []
        table, values = self._walk(self._root, parts, 0, [])
        if table is None:
            raise NotFound("The resource could not be found.")
        found = table.get(request.method)
        if found is None:
            allowed = ", ".join(sorted(table))
            raise MethodNotAllowed(
                f"{request.method} is not supported here; use {allowed}.", headers={"allow": allowed}
            )
        route, names = found
        if names:
            request.params = {n: unquote(v) if "%" in v else v for n, v in zip(names, values, strict=True)}
        request.route = route.path
        return route

    def _walk(
        self, node: _Node, parts: list[str], at: int, values: list[str]
    ) -> tuple[dict[str, tuple[Route, tuple[str, ...]]] | None, list[str]]:
        if at == len(parts):
            return node.routes, values
        child = node.literal.get(parts[at])
        if child is not None:
            table, found = self._walk(child, parts, at + 1, values)
            if table is not None:
                return table, found
        if node.param is not None and parts[at]:
            table, found = self._walk(node.param, parts, at + 1, [*values, parts[at]])
            if table is not None:
                return table, found
        if node.rest is not None:
            return node.rest, [*values, "/".join(parts[at:])]
        return None, values
