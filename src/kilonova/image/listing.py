"""GET /v2/images: filters, order, paging and who sees what, as one statement a page.

Without a `visibility` filter: everything public, one's own, and shared images one has accepted; community images
only when asked for. Any other parameter is a property that must have that value.
"""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import urlencode

from kilonova.db.queries import images as queries
from kilonova.db.queries.images import ImageRow
from kilonova.db.queries.listing import Listing
from kilonova.http.errors import BadRequest
from kilonova.http.message import Request
from kilonova.image.attributes import VISIBILITIES
from kilonova.image.port import ImageNotFound
from kilonova.image.service import EmbeddedImages
from kilonova.model.credentials import Credentials

_DEFAULT_LIMIT = 25
_CONTROL = {"limit", "marker", "sort", "sort_key", "sort_dir", "member_status"}
_TEXT = {
    "name": "name", "status": "status", "container_format": "container_format", "disk_format": "disk_format",
    "owner": "owner", "checksum": "checksum", "id": "id", "os_hash_algo": "hash_algo", "os_hash_value": "hash_value",
}  # fmt: skip
_NUMBERS = {"min_ram": "min_ram = :{0}", "min_disk": "min_disk = :{0}", "size": "size = :{0}",
            "size_min": "size >= :{0}", "size_max": "size <= :{0}", "virtual_size": "virtual_size = :{0}"}  # fmt: skip
_FLAGS = {"protected": "protected", "os_hidden": "hidden"}
_COMPARE = {"eq": "=", "neq": "<>", "gt": ">", "gte": ">=", "lt": "<", "lte": "<="}


async def page(images: EmbeddedImages, request: Request) -> tuple[list[ImageRow], str | None]:
    """The rows of a page and the path of the next. Raises BadRequest."""
    listing = queries.page()
    _scope(listing, request, request.credentials)
    _filter(listing, request)
    listing.sort(_order(request))
    limit = _limit(request, images.limits.page)
    marker = request.query_one("marker")
    if marker is not None:
        try:
            await images.visible(marker, request.credentials)
        except ImageNotFound:
            raise BadRequest(f"marker {marker[:100]} not found") from None
        statement, params = listing.place(marker)
        place = await images.database.fetch_one(statement, params)
        if place is None:
            raise BadRequest(f"marker {marker[:100]} not found")
        listing.after(place)
    if limit == 0:
        return [], None
    rows = await images.database.scan(listing.statement(limit + 1), listing.params, queries.images)
    if len(rows) <= limit:
        return rows, None
    rows = rows[:limit]
    kept = [(k, v) for k, v in request.query if k != "marker"]
    return rows, "/v2/images?" + urlencode([*kept, ("marker", rows[-1].id)])


def _scope(listing: Listing, request: Request, creds: Credentials) -> None:
    visibility = request.query_one("visibility")
    if visibility is not None and visibility not in (*VISIBILITIES, "all"):
        raise BadRequest(f"Invalid visibility value: {visibility[:50]}")
    status = request.query_one("member_status") or "accepted"
    if status not in ("pending", "accepted", "rejected", "all"):
        raise BadRequest(f"Invalid status: {status[:50]}")
    project = creds.project_id or ""
    if not creds.is_admin:
        shared = "SELECT m.image_id FROM image_members m WHERE m.member_id = :me"
        if status != "all":
            shared += " AND m.status = :member_status"
        listing.where(
            "(owner = :me OR visibility IN ('public', 'community')"
            f" OR (visibility = 'shared' AND id IN ({shared})))",
            me=project,
        )
        if status != "all":
            listing.params["member_status"] = status
    if visibility is not None and visibility != "all":
        listing.where("visibility = :visibility", visibility=visibility)
    elif visibility is None:
        listing.where("(visibility <> 'community' OR owner = :mine)", mine=request.query_one("owner") or project)


def _filter(listing: Listing, request: Request) -> None:
    hidden = False
    for n, (name, value) in enumerate(request.query):
        if "\x00" in value or "\x00" in name:
            raise BadRequest("A query parameter holds a NUL character.")
        key = f"f{n}"
        if name in _CONTROL or name == "visibility":
            continue
        if name == "tag":
            listing.where(queries.WITH_FACT.format(key), **{key: queries.tag_fact(value.strip())})
        elif name in _TEXT:
            _text(listing, _TEXT[name], value)
        elif name in _NUMBERS:
            listing.where(_NUMBERS[name].format(key), **{key: _number(name, value)})
        elif name in _FLAGS:
            hidden = hidden or name == "os_hidden"
            listing.where(f"{_FLAGS[name]} = :{key}", **{key: _flag(name, value)})
        elif name in ("created_at", "updated_at"):
            operator, moment = _moment(name, value)
            # Shown and compared in whole seconds.
            listing.where(f"{name} / 1000000 {operator} :{key}", **{key: moment})
        elif name == "changes-since":
            raise BadRequest('The "changes-since" filter is no longer available on v2.')
        else:
            listing.where(queries.WITH_FACT.format(key), **{key: queries.property_fact(name, value)})
    if not hidden:
        listing.where("hidden = 0")


def _text(listing: Listing, column: str, value: str) -> None:
    if value.startswith("in:"):
        listing.any_of(column, [each.strip().strip('"') for each in value[3:].split(",")][:1000])
    else:
        listing.any_of(column, [value.lower() if column == "id" else value])


def _number(name: str, value: str) -> int:
    if not (value.isascii() and value.isdigit()) or len(value) > 18:
        raise BadRequest(f"{name} must be a whole number.")
    return int(value)


def _flag(name: str, value: str) -> int:
    folded = value.strip().lower()
    if folded in ("true", "1", "t", "yes", "on"):
        return 1
    if folded in ("false", "0", "f", "no", "off"):
        return 0
    raise BadRequest(f"{name} must be true or false.")


def _moment(name: str, value: str) -> tuple[str, int]:
    word, _, rest = value.partition(":")
    operator = _COMPARE.get(word)
    if operator is None:
        operator, rest = "=", value
    try:
        moment = datetime.fromisoformat(rest.replace("Z", "+00:00"))
    except ValueError:
        raise BadRequest(f"{name}: {rest[:50]!r} is not an ISO 8601 time.") from None
    return operator, int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def _limit(request: Request, most: int) -> int:
    text = request.query_one("limit")
    if text is None:
        return min(_DEFAULT_LIMIT, most)
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit()):
        raise BadRequest("limit param must be an integer")
    if text.startswith("-"):
        raise BadRequest("limit param must be positive")
    return min(int(digits[:18]), most)


def _order(request: Request) -> list[tuple[str, bool]]:
    """(key, descending?) pairs, from ``sort=a:asc,b`` or the older sort_key and sort_dir."""
    both = [value for name, value in request.query if name == "sort"]
    keys = [value.strip() for name, value in request.query if name == "sort_key"]
    directions = [value.strip() for name, value in request.query if name == "sort_dir"]
    if both:
        if keys or directions:
            raise BadRequest("Old and new sorting syntax cannot be combined")
        pairs = [each.partition(":") for each in both[-1].strip().split(",")]
        keys = [key.strip() for key, _, _ in pairs]
        directions = [way.strip() or "desc" for _, _, way in pairs]
    keys = keys or ["created_at"]
    directions = directions or ["desc"]
    if len(directions) == 1:
        directions *= len(keys)
    if len(directions) != len(keys):
        raise BadRequest("Number of sort dirs does not match the number of sort keys")
    for key in keys:
        if key not in queries.ORDER:
            raise BadRequest(f"Invalid sort key: {key[:50]}. It must be one of {', '.join(queries.ORDER)}.")
    for way in directions:
        if way not in ("asc", "desc"):
            raise BadRequest(f"Invalid sort direction: {way[:50]}")
    return [(key, way == "desc") for key, way in zip(keys, directions, strict=True)]
