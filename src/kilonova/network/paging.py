"""GET of a collection: filters, fields, order and pages, as one statement whose rows are encoded where they arrive."""

from __future__ import annotations

from typing import Any, Generic, TypeVar
from urllib.parse import urlencode

import msgspec
from msgspec import Struct

from kilonova.db.database import Database
from kilonova.db.statement import Row
from kilonova.http.errors import BadRequest
from kilonova.http.message import Request, Response
from kilonova.network.attributes import flag
from kilonova.network.errors import bad, invalid
from kilonova.network.resource import TAG_FILTERS, Resource

T = TypeVar("T", bound=Struct)
_encode = msgspec.json.Encoder().encode
_CONTROL = {"fields", "limit", "marker", "page_reverse", "sort_key", "sort_dir"}


def wanted_fields(request: Request) -> frozenset[str]:
    """Names of `fields`; none: all."""
    return frozenset(value for name, value in request.query if name == "fields" and value)


def trimmed(view: dict[str, Any], fields: frozenset[str]) -> dict[str, Any]:
    return {name: value for name, value in view.items() if name in fields} if fields else view


async def page(resource: Resource[T], database: Database, request: Request) -> Response:
    """The answer to a list. Raises BadRequest."""
    creds = request.credentials
    listing = resource.records.page()
    if not creds.is_admin:
        listing.where(resource.scope, me=creds.project_id or "")
    for name, values in _filters(request).items():
        if name in TAG_FILTERS:
            TAG_FILTERS[name](listing, values)
        elif name in resource.special:
            resource.special[name](listing, values)
        elif name in resource.flags:
            listing.any_of(resource.flags[name], [flag(value, name) for value in values])
        elif name in resource.columns:
            listing.any_of(resource.columns[name], list(values[:1000]))
        else:
            raise BadRequest(f"['{name[:100]}'] is invalid attribute for filtering", code="HTTPBadRequest")
    listing.sort(_order(request, resource))
    limit, reverse = _limit(request), _reverse(request)
    marker = request.query_one("marker")
    if marker:
        statement, params = listing.place(marker)
        place = await database.fetch_one(statement, params)
        if place is None:
            raise BadRequest(f"The marker {marker[:100]} does not exist.", code="HTTPBadRequest")
        listing.after(place, reverse)
    statement = listing.statement(None if limit is None else limit + 1, reverse)
    show = _Show(resource, wanted_fields(request), creds.is_admin, limit, reverse)
    rows, more, shown = await database.scan(statement, listing.params, show.fold)
    if resource.decorate is not None:
        shown = show.encode(rows, await resource.decorate(database, rows))
    key = resource.members.encode()
    body = b'{"' + key + b'":' + shown
    links = _links(request, rows, more, reverse) if limit is not None else []
    if links:
        body += b',"' + key + b'_links":' + _encode(links)
    return Response(200, body + b"}", media="application/json")


class _Show(Generic[T]):
    """Rows to their JSON: run where they arrive, away from the loop."""

    def __init__(
        self, resource: Resource[T], fields: frozenset[str], admin: bool, limit: int | None, reverse: bool
    ) -> None:
        self._resource, self._fields, self._admin = resource, fields, admin
        self._limit, self._reverse = limit, reverse

    def fold(self, found: list[Row]) -> tuple[list[T], bool, bytes]:
        """(the page's records, whether there are more, their JSON unless more is to be added to them)."""
        more = self._limit is not None and len(found) > self._limit
        rows = self._resource.records.rows(found if self._limit is None else found[: self._limit])
        if self._reverse:
            rows.reverse()
        return rows, more, b"" if self._resource.decorate is not None else self.encode(rows, {})

    def encode(self, rows: list[T], extra: dict[str, dict[str, Any]]) -> bytes:
        """A JSON array; `extra` members by id."""
        shown = [self._resource.view(row, self._admin) for row in rows]
        if extra:
            for each in shown:
                each.update(extra.get(each["id"], {}))
        return _encode([trimmed(each, self._fields) for each in shown] if self._fields else shown)


def _filters(request: Request) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in request.query:
        if "\x00" in name or "\x00" in value:
            raise bad("A query parameter holds a NUL character.")
        if name not in _CONTROL:
            found.setdefault("project_id" if name == "tenant_id" else name, []).append(value)
    return found


def _order(request: Request, resource: Resource[T]) -> list[tuple[str, bool]]:
    keys = [value for name, value in request.query if name == "sort_key"]
    directions = [value for name, value in request.query if name == "sort_dir"]
    for key in keys:
        if key not in resource.records.order:
            raise bad(f"[{key[:50]!r}] is invalid attribute for sort_keys")
    if any(way not in ("asc", "desc") for way in directions):
        raise bad("sort_dir is asc or desc.")
    if directions and len(keys) != len(directions):
        raise bad("The number of sort_keys and sort_dirs must be same")
    directions = directions or ["asc"] * len(keys)
    return [(key, way == "desc") for key, way in zip(keys, directions, strict=True)]


def _limit(request: Request) -> int | None:
    text = request.query_one("limit")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()):
        raise invalid(f"Limit must be an integer 0 or greater and not '{text[:20]}'")
    return min(int(text[:9]), 10_000) or None


def _reverse(request: Request) -> bool:
    text = request.query_one("page_reverse")
    return text is not None and text.lower() in ("true", "1")


def _links(request: Request, rows: list[T], more: bool, reverse: bool) -> list[dict[str, str]]:
    kept = [(k, v) for k, v in request.query if k not in ("marker", "page_reverse")]
    base = f"{request.host_url}{request.path}?"
    links = []
    if rows:
        first, last = rows[0].id, rows[-1].id  # type: ignore[attr-defined]  # all have it
        if more or reverse:
            links.append({"rel": "next", "href": base + urlencode([*kept, ("marker", last)])})
        if (reverse and more) or (not reverse and request.query_one("marker")):
            back = [*kept, ("marker", first), ("page_reverse", "True")]
            links.append({"rel": "previous", "href": base + urlencode(back)})
    return links
