"""/os-availability-zone, and which zone a host is in."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from kilonova.api.moments import plain
from kilonova.api.operation import Call, operation
from kilonova.api.services import ApiServices
from kilonova.db.queries.services import ALL, ServiceRow, service
from kilonova.db.queries.zones import ZONE_OF_HOSTS

_RULE = "os_compute_api:os-availability-zone:"
INTERNAL = "internal"
"""The zone of services that are no hypervisors' hosts."""


async def zones_of_hosts(services: ApiServices) -> dict[str, str]:
    """Host -> zone, for hosts in an aggregate with a zone."""
    return {row[0]: row[1] for row in await services.databases.global_.fetch(ZONE_OF_HOSTS, {})}


def zone_of(row: ServiceRow, zones: dict[str, str], default: str) -> str:
    """The zone of a service."""
    return zones.get(row.host, default) if row.binary == "nova-compute" else INTERNAL


async def _by_zone(call: Call) -> dict[str, list[ServiceRow]]:
    rows = [service(row) for row in await call.services.databases.global_.fetch(ALL, {})]
    zones = await zones_of_hosts(call.services)
    found: dict[str, list[ServiceRow]] = defaultdict(list)
    for row in rows:
        found[zone_of(row, zones, call.services.settings.default_zone)].append(row)
    return found


def _available(rows: list[ServiceRow]) -> bool:
    return any(not row.disabled for row in rows)


@operation("GET", "/os-availability-zone", _RULE + "list")
async def index(call: Call) -> Any:
    found = await _by_zone(call)
    found.pop(INTERNAL, None)
    return {
        "availabilityZoneInfo": [
            {"zoneName": zone, "zoneState": {"available": _available(rows)}, "hosts": None}
            for zone, rows in sorted(found.items(), key=lambda item: (not _available(item[1]), item[0]))
        ]
    }


@operation("GET", "/os-availability-zone/detail", _RULE + "detail")
async def detail(call: Call) -> Any:
    shown = []
    found = await _by_zone(call)
    for zone, rows in sorted(found.items(), key=lambda item: (not _available(item[1]), item[0])):
        available = _available(rows)
        hosts: dict[str, dict[str, Any]] = defaultdict(dict)
        for row in rows:
            if not row.disabled:
                up = bool(not row.forced_down and call.services.host_up(row.host, row.binary))
                hosts[row.host][row.binary] = {"available": up, "active": True, "updated_at": plain(row.updated_at)}
        shown.append(
            {"zoneName": zone, "zoneState": {"available": available}, "hosts": dict(hosts) if available else None}
        )
    return {"availabilityZoneInfo": shown}


OPERATIONS = (index, detail)
