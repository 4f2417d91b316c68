"""GET /flavors, /flavors/detail, /flavors/{id}: for any valid token, private ones for whom they are open to."""

from __future__ import annotations

from typing import Any

from kilonova.api.flavors.fields import BRIEF, EXTRA_SPECS, SHOW
from kilonova.api.flavors.finding import visible_flavor
from kilonova.api.microversion.fields import In, query
from kilonova.api.microversion.schemas import QUERY_COUNT, TEXT
from kilonova.api.operation import ANYONE, Call, Span, operation
from kilonova.api.paging import page_size
from kilonova.db.queries.flavors import ALL, MAY_USE, FlavorRow, flavor
from kilonova.http.errors import BadRequest

_SORT = {
    "created_at": "created_at", "description": "description", "disabled": "disabled", "ephemeral_gb": "ephemeral_gb",
    "flavorid": "flavor_id", "id": "flavor_id", "is_public": "is_public", "memory_mb": "memory_mb", "name": "name",
    "root_gb": "root_gb", "rxtx_factor": "rxtx_factor", "swap": "swap_mb", "updated_at": "updated_at",
    "vcpu_weight": "flavor_id", "vcpus": "vcpus",
}  # fmt: skip
_KEYS = list(_SORT)
_QUERY = query(
    ("limit", In(QUERY_COUNT)),
    ("marker", In(TEXT)),
    ("is_public", In(TEXT)),
    ("minRam", In(TEXT)),
    ("minDisk", In(TEXT)),
    ("sort_key", In({"type": "string", "enum": _KEYS}, until=101)),
    ("sort_key", In({"type": "string", "enum": [key for key in _KEYS if key != "rxtx_factor"]}, since=102)),
    ("sort_dir", In({"type": "string", "enum": ["asc", "desc"]})),
    ("name", In(TEXT, since=102)),
)
_FACETS = {"name_filter": Span(102)}


def flags_of(call: Call) -> frozenset[str]:
    """What policy adds to a flavor's view."""
    shown = call.may("os_compute_api:os-flavor-extra-specs:index")
    return frozenset({EXTRA_SPECS}) if shown else frozenset()


@operation("GET", "/flavors", ANYONE, query=_QUERY, facets=_FACETS)
async def index(call: Call) -> Any:
    return await _list(call, BRIEF)


@operation("GET", "/flavors/detail", ANYONE, query=_QUERY, facets=_FACETS)
async def detail(call: Call) -> Any:
    return await _list(call, SHOW)


@operation("GET", "/flavors/{flavor_id}", ANYONE)
async def show(call: Call) -> Any:
    found = await visible_flavor(call, call.params["flavor_id"])
    return {"flavor": SHOW.render(found, call.request.state["base"], call.version, flags_of(call))}


async def _list(call: Call, view: Any) -> Any:
    found = await _visible(call)
    for name, column in (("minRam", "memory_mb"), ("minDisk", "root_gb")):
        least = call.one(name)
        if least is not None:
            if not least.isascii() or not least.isdigit():
                raise BadRequest(f"Invalid {name} filter [{least[:50]}]")
            found = [each for each in found if getattr(each, column) >= int(least[:20])]
    named = call.one("name") if "name" in call.query and call.has("name_filter") else None
    if named is not None:
        found = [each for each in found if named in each.name]
    found = _ordered(call, found)
    limit = page_size(call.one("limit"), call.services.settings.max_limit)
    page = _page(call, found, limit)
    base, flags = call.request.state["base"], flags_of(call)
    shown: dict[str, Any] = {"flavors": [view.render(each, base, call.version, flags) for each in page]}
    if page and len(page) == limit:
        shown["flavors_links"] = base.next_page(call.operation.path, call.request.query, page[-1].flavor_id)
    return shown


async def _visible(call: Call) -> list[FlavorRow]:
    whole = call.services.databases.global_
    every = [flavor(row) for row in await whole.fetch(ALL, {})]
    asked = (call.one("is_public") or "true").strip().lower()
    if not call.policy.is_admin(call.creds):
        allowed = {row[0] for row in await whole.fetch(MAY_USE, {"project_id": call.project_id})}
        return [each for each in every if not each.disabled and (each.is_public or each.flavor_id in allowed)]
    if asked == "none":
        return every
    if asked in ("1", "t", "true", "on", "y", "yes"):
        return [each for each in every if each.is_public]
    if asked in ("0", "f", "false", "off", "n", "no"):
        return [each for each in every if not each.is_public]
    raise BadRequest(f"Invalid is_public filter [{asked[:50]}]")


def _ordered(call: Call, found: list[FlavorRow]) -> list[FlavorRow]:
    key = _SORT[call.one("sort_key") or "flavorid"]

    empty: Any = "" if key in ("flavor_id", "name", "description") else 0

    def value(each: FlavorRow) -> tuple[Any, str]:
        return (getattr(each, key) or empty, each.flavor_id)

    return sorted(found, key=value, reverse=call.one("sort_dir") == "desc")


def _page(call: Call, found: list[FlavorRow], limit: int) -> list[FlavorRow]:
    marker = call.one("marker")
    start = 0
    if marker:
        ids = [each.flavor_id for each in found]
        if marker not in ids:
            raise BadRequest(f"marker [{marker[:100]}] not found")
        start = ids.index(marker) + 1
    return found[start : start + limit]


OPERATIONS = (index, detail, show)
