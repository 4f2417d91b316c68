"""/os-hypervisors: hosts as operators see them, in the forms before and after 2.28, 2.53, 2.75 and 2.88."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from msgspec import Raw, Struct

from kilonova.api.links import Base
from kilonova.api.microversion import schemas as s
from kilonova.api.microversion.fields import OMIT, Field, In, Out, Resource, query
from kilonova.api.operation import Call, Span, operation
from kilonova.api.paging import page_size
from kilonova.db.queries import hypervisors as rows
from kilonova.db.queries.hypervisors import Hypervisor, hypervisor
from kilonova.http.errors import BadRequest, NotFound

_RULE = "os_compute_api:os-hypervisors:"


class _Look(Struct):
    """What a view shows beside the row."""

    call: Call
    used: dict[tuple[str, str], int] = {}
    counts: dict[str, tuple[int, int]] = {}
    servers: dict[str, list[dict[str, str]]] = {}
    asked: bool = False
    """Whether servers were asked for."""


def _service(uuid: bool) -> Any:
    return lambda v, _: {
        "id": v.service_uuid if uuid else v.service_number, "host": v.host, "disabled_reason": v.disabled_reason
    }  # fmt: skip


def _state(v: Hypervisor, look: _Look) -> str:
    return "up" if not v.forced_down and look.call.services.host_up(v.host, "nova-compute") else "down"


def _used(resource: str) -> Any:
    return lambda v, look: look.used.get((v.uuid, resource), 0)


def _free(column: str, resource: str) -> Any:
    return lambda v, look: getattr(v, column) - look.used.get((v.uuid, resource), 0)


def _servers_if_any(v: Hypervisor, look: _Look) -> Any:
    found = look.servers.get(v.host, []) if look.asked else []
    return found or OMIT


def _servers(v: Hypervisor, look: _Look) -> Any:
    return look.servers.get(v.host, []) if look.asked else OMIT


def _both(get: Any, **span: Any) -> dict[str, Any]:
    return {"show": Out(get, **span), "brief": Out(get, **span)}


def _to_87(name: str, get: Any) -> Field:
    return Field(name, until=87, show=get)


HYPERVISOR = Resource(
    "hypervisor",
    [
        Field("id", **_both(lambda v, _: v.number, until=52)),
        Field("id", **_both(lambda v, _: v.uuid, since=53)),
        Field("hypervisor_hostname", **_both(lambda v, _: v.node)),
        Field("state", **_both(_state)),
        Field("status", **_both(lambda v, _: "disabled" if v.disabled else "enabled")),
        Field("hypervisor_type", show=lambda v, _: v.hypervisor_type),
        Field("hypervisor_version", show=lambda v, _: v.hypervisor_version),
        Field("host_ip", show=lambda v, _: v.host_ip),
        Field("service", until=52, show=_service(uuid=False)),
        Field("service", since=53, show=_service(uuid=True)),
        _to_87("vcpus", lambda v, _: v.vcpus),
        _to_87("memory_mb", lambda v, _: v.memory_mb),
        _to_87("local_gb", lambda v, _: v.local_gb),
        _to_87("vcpus_used", _used("VCPU")),
        _to_87("memory_mb_used", _used("MEMORY_MB")),
        _to_87("local_gb_used", _used("DISK_GB")),
        _to_87("free_ram_mb", _free("memory_mb", "MEMORY_MB")),
        _to_87("free_disk_gb", _free("local_gb", "DISK_GB")),
        _to_87("current_workload", lambda v, look: look.counts.get(v.host, (0, 0))[1]),
        _to_87("running_vms", lambda v, look: look.counts.get(v.host, (0, 0))[0]),
        _to_87("disk_available_least", lambda v, _: v.free_disk_gb),
        Field("cpu_info", until=27, show=lambda v, _: v.cpu_info),
        Field("cpu_info", since=28, until=87, show=lambda v, _: Raw(v.cpu_info or "{}")),
        Field("uptime", since=88, show=lambda v, _: None),
        Field("servers", since=53, until=74, **_both(_servers_if_any, sometimes=True)),
        Field("servers", since=75, **_both(_servers, sometimes=True)),
    ],
)  # fmt: skip
_SHOW, _BRIEF = HYPERVISOR.view("show"), HYPERVISOR.view("brief")
_PAGE = query(
    ("limit", In(s.QUERY_COUNT, since=33)),
    ("marker", In(s.TEXT, since=33)),
    ("hypervisor_hostname_pattern", In(s.FQDN, since=53)),
    ("with_servers", In(s.BOOLEAN, since=53)),
    strict=53,
)
_ONE = query(("with_servers", In(s.BOOLEAN, since=53)), strict=53)
_FACETS = {"pages": Span(33), "queries": Span(53), "resources": Span(until=87)}


@operation("GET", "/os-hypervisors", _RULE + "list", query=_PAGE, facets=_FACETS)
async def index(call: Call) -> Any:
    return await _list(call, _BRIEF, detail=False)


@operation("GET", "/os-hypervisors/detail", _RULE + "list-detail", query=_PAGE, facets=_FACETS)
async def detail(call: Call) -> Any:
    return await _list(call, _SHOW, detail=True)


async def _list(call: Call, view: Any, *, detail: bool) -> Any:
    pattern = call.one("hypervisor_hostname_pattern") if call.has("queries") else None
    limit, marker = None, None
    if call.has("pages"):
        limit, marker = page_size(call.one("limit"), call.services.settings.max_limit), call.one("marker")
    if pattern is not None:
        if "limit" in call.query or marker:
            raise BadRequest(
                "Paging over hypervisors with the hypervisor_hostname_pattern query parameter is not supported."
            )
        found = await _matching(call, pattern)
    else:
        start = (await _find(call, marker, marker=True)).number if marker else -1
        statement = rows.PAGE if limit is not None else rows.ALL
        params = {"marker": start, "limit": limit} if limit is not None else {}
        found = await call.services.databases.global_.scan(statement, params, lambda r: [hypervisor(x) for x in r])
    look = await _look(call, found, detail=detail)
    shown: dict[str, Any] = {"hypervisors": [view.render(each, look, call.version) for each in found]}
    if limit is not None and pattern is None and found and len(found) == limit:
        base: Base = call.request.state["base"]
        last = found[-1].uuid if call.has("queries") else str(found[-1].number)
        shown["hypervisors_links"] = base.next_page(call.operation.path, call.request.query, last)
    return shown


async def _matching(call: Call, pattern: str) -> list[Hypervisor]:
    every = await call.services.databases.global_.scan(rows.ALL, {}, lambda r: [hypervisor(x) for x in r])
    found = [each for each in every if pattern.lower() in each.node.lower()]
    if not found:
        raise NotFound(f"No hypervisor matching '{pattern[:100]}' could be found.")
    return found


async def _look(call: Call, found: list[Hypervisor], *, detail: bool) -> _Look:
    look = _Look(call)
    look.asked = call.has("queries") and s.as_bool(call.one("with_servers") or False)
    whole = call.services.databases.global_
    cells = list(dict.fromkeys(call.services.databases.cells.values()))
    if look.asked:
        look.servers = await _servers_of(call, found)
    if detail and call.has("resources"):
        if len(found) == 1:
            used = await whole.fetch(rows.USED_OF, {"provider": found[0].uuid})
        else:
            used = await whole.scan(rows.USED, {}, list)
        look.used = {(row[0], row[1]): row[2] for row in used}
        for cell in cells:
            for host, count, busy in await cell.scan(rows.ON_HOSTS, {}, list):
                look.counts[host] = (count, int(busy or 0))
    return look


async def _servers_of(call: Call, found: list[Hypervisor]) -> dict[str, list[dict[str, str]]]:
    listed: dict[str, list[dict[str, str]]] = defaultdict(list)
    for cell in dict.fromkeys(call.services.databases.cells.values()):
        for each in found:
            for uuid, name in await cell.fetch(rows.SERVERS_ON, {"host": each.host}):
                listed[each.host].append({"uuid": uuid, "name": name})
    return listed


async def _find(call: Call, wanted: str, *, marker: bool = False) -> Hypervisor:
    whole = call.services.databases.global_
    missing = BadRequest(f"marker [{wanted[:100]}] not found") if marker else NotFound(
        f"Hypervisor with ID '{wanted[:100]}' could not be found."
    )
    row = None
    if call.has("queries"):
        if len(wanted.replace("-", "")) != 32:
            raise missing if marker else BadRequest(f"Invalid uuid {wanted[:100]}")
        row = await whole.fetch_one(rows.BY_UUID, {"uuid": wanted.lower()})
    elif wanted.isascii() and wanted.isdigit() and len(wanted) < 19:
        row = await whole.fetch_one(rows.BY_NUMBER, {"number": int(wanted)})
    if row is None:
        raise missing
    return hypervisor(row)


@operation("GET", "/os-hypervisors/{hypervisor_id}", _RULE + "show", query=_ONE, facets=_FACETS)
async def show(call: Call) -> Any:
    found = await _find(call, call.params["hypervisor_id"])
    look = await _look(call, [found], detail=True)
    return {"hypervisor": _SHOW.render(found, look, call.version)}


@operation("GET", "/os-hypervisors/{hypervisor_id}/uptime", _RULE + "uptime", until=87, facets=_FACETS)
async def uptime(call: Call) -> Any:
    found = await _find(call, call.params["hypervisor_id"])
    shown = _BRIEF.render(found, _Look(call), call.version)
    return {"hypervisor": {**shown, "uptime": ""}}


@operation("GET", "/os-hypervisors/statistics", _RULE + "statistics", until=87, facets=_FACETS)
async def statistics(call: Call) -> Any:
    every = await call.services.databases.global_.scan(rows.ALL, {}, lambda r: [hypervisor(x) for x in r])
    every = [each for each in every if not each.disabled]
    look = await _look(call, every, detail=True)
    plan = dict(_SHOW.plan(call.version)[0])
    names = (
        "vcpus", "memory_mb", "local_gb", "vcpus_used", "memory_mb_used", "local_gb_used", "free_ram_mb",
        "free_disk_gb", "current_workload", "running_vms", "disk_available_least",
    )  # fmt: skip
    sums = {name: sum(plan[name](each, look) for each in every) for name in names}
    return {"hypervisor_statistics": {"count": len(every), **sums}}


@operation("GET", "/os-hypervisors/{hypervisor_id}/search", _RULE + "search", until=52, facets=_FACETS)
async def search(call: Call) -> Any:
    found = await _matching(call, call.params["hypervisor_id"])
    look = _Look(call)
    return {"hypervisors": [_BRIEF.render(each, look, call.version) for each in found]}


@operation("GET", "/os-hypervisors/{hypervisor_id}/servers", _RULE + "servers", until=52, facets=_FACETS)
async def servers(call: Call) -> Any:
    found = await _matching(call, call.params["hypervisor_id"])
    look = _Look(call)
    listed = await _servers_of(call, found)
    shown = []
    for each in found:
        entry = _BRIEF.render(each, look, call.version)
        if listed.get(each.host):
            entry["servers"] = listed[each.host]
        shown.append(entry)
    return {"hypervisors": shown}


OPERATIONS = (index, detail, show, uptime, statistics, search, servers)
