"""What a list of servers asks for: filters, scope, order and page, from the query string."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from kilonova.api.microversion.fields import In, query
from kilonova.api.microversion.schemas import DATE, QUERY_COUNT, TEXT, as_bool
from kilonova.api.operation import Call
from kilonova.api.paging import page_size
from kilonova.api.servers import filters as f
from kilonova.http.errors import BadRequest, Forbidden

_SORT = {
    "access_ip_v4": "access_ip_v4", "access_ip_v6": "access_ip_v6", "auto_disk_config": "disk_config",
    "availability_zone": "availability_zone", "config_drive": "config_drive", "created_at": "created_at",
    "display_description": "description", "display_name": "name", "host": "host", "hostname": "hostname",
    "image_ref": "image_id", "instance_type_id": "flavor_id", "key_name": "key_name",
    "launch_index": "launch_index", "launched_at": "launched_at", "locked_by": "locked_by", "node": "node",
    "power_state": "power_state", "progress": "progress", "project_id": "project_id",
    "root_device_name": "root_device_name", "task_state": "task_state", "terminated_at": "terminated_at",
    "updated_at": "updated_at", "user_id": "user_id", "uuid": "uuid", "vm_state": "vm_state",
}  # fmt: skip
_SORT_IN_IMAGE = ("kernel_id", "ramdisk_id")
# Names that were once columns: taken and ignored until 2.74.
_SORT_IGNORED = (
    "architecture", "cell_name", "cleaned", "default_ephemeral_device", "default_swap_device", "deleted",
    "deleted_at", "disable_terminate", "ephemeral_gb", "ephemeral_key_uuid", "id", "key_data", "launched_on",
    "memory_mb", "os_type", "reservation_id", "root_gb", "shutdown_terminate", "user_data", "vcpus", "vm_mode",
)  # fmt: skip
_KEYS = [*_SORT, *_SORT_IN_IMAGE]


def _keys(*more: str) -> dict[str, Any]:
    return {"type": "string", "enum": [*_KEYS, *more]}


_PLAIN = (
    "user_id", "project_id", "tenant_id", "launch_index", "image_ref", "image", "kernel_id", "ramdisk_id", "hostname",
    "key_name", "power_state", "vm_state", "task_state", "host", "node", "flavor", "reservation_id", "launched_at",
    "terminated_at", "availability_zone", "name", "display_name", "description", "display_description", "locked_by",
    "uuid", "root_device_name", "config_drive", "access_ip_v4", "access_ip_v6", "auto_disk_config", "progress",
    "sort_dir", "all_tenants", "soft_deleted", "deleted", "status", "ip", "ip6", "created_at", "block_device_mapping",
    "services", "metadata", "system_metadata", "info_cache", "security_groups", "pci_devices", "marker",
)  # fmt: skip
_TAGS = ("tags", "tags-any", "not-tags", "not-tags-any")
QUERY = query(
    *((name, In(TEXT)) for name in _PLAIN),
    *((name, In(TEXT, since=26)) for name in _TAGS),
    ("limit", In(QUERY_COUNT)),
    ("changes-since", In(DATE)),
    ("changes-before", In(DATE, since=66)),
    ("locked", In(TEXT, since=73)),
    ("sort_key", In(_keys(*_SORT_IGNORED, "locked"), until=74)),
    ("sort_key", In(_keys("locked"), since=75)),
)

# Who is no admin may filter by these, from the version on; the rest is ignored.
_OPEN = {
    "reservation_id": 1, "name": 1, "display_name": 1, "status": 1, "image": 1, "image_ref": 1, "flavor": 1, "ip": 1,
    "changes-since": 1, "ip6": 5, "tags": 26, "tags-any": 26, "not-tags": 26, "not-tags-any": 26,
    "changes-before": 66, "locked": 73, "availability_zone": 83, "config_drive": 83, "key_name": 83, "created_at": 83,
    "launched_at": 83, "terminated_at": 83, "power_state": 83, "task_state": 83, "vm_state": 83, "progress": 83,
    "user_id": 83,
}  # fmt: skip
_ADMIN_ORDER = ("host", "node")
_JOINED = ("block_device_mapping", "services", "system_metadata", "info_cache", "security_groups", "pci_devices")


class Wanted(Struct, frozen=True, kw_only=True):
    """A list as asked for."""

    filters: tuple[f.Filter, ...]
    project_id: str | None
    """None: all projects."""
    archive: str
    """`no`, `also`, `only`."""
    sort: tuple[tuple[str, bool], ...]
    limit: int
    marker: str | None
    nothing: bool = False
    """Nothing can match."""


def understand(call: Call, detail: bool) -> Wanted:
    """Read the query. Raises BadRequest, Forbidden."""
    asked = dict(call.query)
    admin = call.may("os_compute_api:servers:allow_all_filters")
    project, everyone = _scope(call, asked, detail)
    since, before = _last(asked, "changes-since"), _last(asked, "changes-before")
    archive = _archive(call, asked, admin, since is not None or before is not None)
    if not admin:
        asked = {name: values for name, values in asked.items() if _OPEN.get(name, 999) <= call.version}
    made: list[f.Filter] = f.changed(since, before)
    nothing = False
    for name, values in asked.items():
        if name in _JOINED or name.startswith("_"):
            raise BadRequest(f"Invalid filter: {name[:100]}")
        if name == "status":
            wanted = f.shown_status(values)
            if wanted is None:
                if call.has("unknown_status_refused"):
                    raise BadRequest("Invalid status value")
                nothing = True
                continue
            made.append(wanted)
        elif name == "locked":
            made.append(f.locked(values, _truth(values[-1], "locked")))
        elif name == "config_drive":
            made.append(f.whole("config_drive", ["1" if as_bool(values[-1]) else "0"]))
        elif name in f.MAKERS:
            made.append(f.MAKERS[name](values))
    if project is None and not everyone:
        project = call.project_id
    return Wanted(
        filters=tuple(made), project_id=project, archive=archive, sort=_order(call, admin),
        limit=page_size(call.one("limit"), call.services.settings.max_limit), marker=call.one("marker"),
        nothing=nothing,
    )  # fmt: skip


def _last(asked: dict[str, list[str]], name: str) -> str | None:
    values = asked.get(name)
    return values[-1] if values else None


def _truth(value: str, name: str) -> bool:
    lowered = value.strip().lower()
    if lowered in ("1", "t", "true", "on", "y", "yes"):
        return True
    if lowered in ("0", "f", "false", "off", "n", "no"):
        return False
    raise BadRequest(f"Invalid filter: {name} takes a boolean, not {value[:50]!r}.")


def _scope(call: Call, asked: dict[str, list[str]], detail: bool) -> tuple[str | None, bool]:
    """(project to show or None, whether all projects are meant)."""
    everyone = False
    given = _last(asked, "all_tenants")
    project = _last(asked, "tenant_id") or _last(asked, "project_id")
    if given is not None:
        everyone = True if given == "" else _truth(given, "all_tenants")
    if everyone:
        call.authorize(f"os_compute_api:servers:{'detail' if detail else 'index'}:get_all_tenants")
        return project, True
    return None, False


def _archive(call: Call, asked: dict[str, list[str]], admin: bool, changes: bool) -> str:
    deleted = asked.pop("deleted", None)
    statuses = [value.lower() for value in asked.get("status", ())]
    if "deleted" in statuses:
        if not admin:
            raise Forbidden("Only administrators may list deleted instances")
        return "only" if len(statuses) == 1 else "also"
    if admin and deleted is not None:
        return "only" if _truth(deleted[-1], "deleted") else "no"
    return "also" if changes else "no"


def _order(call: Call, admin: bool) -> tuple[tuple[str, bool], ...]:
    keys = call.query.get("sort_key", [])
    directions = call.query.get("sort_dir", [])
    for direction in directions:
        if direction not in ("asc", "desc"):
            raise BadRequest(f"Unknown sort direction {direction[:50]!r}, must be 'desc' or 'asc'.")
    if len(directions) > len(keys) > 0:
        raise BadRequest("Sort direction size exceeds sort key size.")
    order: dict[str, bool] = {}
    for i, key in enumerate(keys or ["created_at"]):
        if key in _ADMIN_ORDER and not admin:
            raise Forbidden(f"Only administrators can sort servers by {key}")
        column = "locked_by" if key == "locked" else _SORT.get(key)
        if column is not None:
            order.setdefault(column, directions[i] == "desc" if i < len(directions) else True)
    last = next(reversed(order.values()), True)
    order.setdefault("uuid", last)
    return tuple(order.items())
