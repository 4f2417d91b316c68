"""/os-services: what runs where, and taking hosts out of service."""

from __future__ import annotations

from typing import Any

from kilonova.api.microversion import schemas as s
from kilonova.api.microversion.fields import Field, In, Out, Resource, query
from kilonova.api.moments import plain
from kilonova.api.operation import Call, Span, operation
from kilonova.api.zones import zone_of, zones_of_hosts
from kilonova.db.database import Tx
from kilonova.db.queries import services as rows
from kilonova.db.queries.services import ServiceRow, service
from kilonova.http.errors import BadRequest, Conflict, NotFound

_RULE = "os_compute_api:os-services:"
_REASON = {"type": "string", "minLength": 1, "maxLength": 255}
_HIDDEN = ("nova-osapi_compute", "nova-metadata")


class _Look:
    """What a view needs beside the row."""

    def __init__(self, call: Call, zones: dict[str, str]) -> None:
        self._services, self._zones = call.services, zones

    def zone(self, row: ServiceRow) -> str:
        return zone_of(row, self._zones, self._services.settings.default_zone)

    def state(self, row: ServiceRow) -> str:
        return "up" if not row.forced_down and self._services.host_up(row.host, row.binary) else "down"


SERVICE = Resource(
    "service",
    [
        Field("id", until=52, show=lambda v, _: v.number),
        Field("id", since=53, show=lambda v, _: v.uuid),
        Field("binary", show=lambda v, _: v.binary, by_host=In(s.TEXT, required=True)),
        Field("host", show=lambda v, _: v.host, by_host=In(s.FQDN, required=True)),
        Field("zone", show=lambda v, look: look.zone(v)),
        Field("status", show=lambda v, _: "disabled" if v.disabled else "enabled",
              change=In({"type": "string", "enum": ["enabled", "disabled"]}, since=53)),
        Field("state", show=lambda v, look: look.state(v)),
        Field("updated_at", show=lambda v, _: plain(v.updated_at)),
        Field("disabled_reason", show=lambda v, _: v.disabled_reason, change=In(_REASON, since=53),
              by_host=In(_REASON)),
        Field("forced_down", show=Out(lambda v, _: bool(v.forced_down), since=11), change=In(s.BOOLEAN, since=53),
              by_host=In(s.BOOLEAN, since=11)),
    ],
)  # fmt: skip
_VIEW = SERVICE.view()
_BY_HOST = SERVICE.body("by_host", wrapper=None)
_CHANGE = SERVICE.body("change", wrapper=None)


@operation("GET", "/os-services", _RULE + "list", query=query(("host", In(s.TEXT)), ("binary", In(s.TEXT))))
async def index(call: Call) -> Any:
    found = [service(row) for row in await call.services.databases.global_.fetch(rows.ALL, {})]
    host, binary = call.one("host"), call.one("binary")
    look = _Look(call, await zones_of_hosts(call.services))
    return {
        "services": [
            _VIEW.render(row, look, call.version)
            for row in found
            if row.binary not in _HIDDEN and host in (None, "", row.host) and binary in (None, "", row.binary)
        ]
    }


async def _change(tx: Tx, args: tuple[ServiceRow, int]) -> bool:
    return await rows.change(tx, *args)


async def _by_host(call: Call) -> ServiceRow:
    host, binary = call.body["host"], call.body["binary"]
    _only_compute(binary)
    row = await call.services.databases.global_.fetch_one(rows.BY_HOST, {"host": host, "binary": binary})
    if row is None:
        raise NotFound(f"Could not find binary {binary} on host {host}.")
    return service(row)


def _only_compute(binary: str) -> None:
    if binary != "nova-compute":
        raise BadRequest(
            f"Updating a {binary} service is not supported. Only nova-compute services can be updated."
        )


async def _save(call: Call, row: ServiceRow) -> None:
    services = call.services
    if not await services.databases.global_.write(_change, (row, services.clock())):
        raise NotFound(f"Service {row.uuid} could not be found.")
    services.host_flags = None


async def _switch(call: Call, disabled: bool, reason: str | None) -> Any:
    row = await _by_host(call)
    row.disabled, row.disabled_reason = int(disabled), reason
    await _save(call, row)
    shown = {"host": row.host, "binary": row.binary, "status": "disabled" if disabled else "enabled"}
    if reason:
        shown["disabled_reason"] = reason
    return {"service": shown}


@operation("PUT", "/os-services/enable", _RULE + "update", until=52, body=_BY_HOST)
async def enable(call: Call) -> Any:
    return await _switch(call, False, None)


@operation("PUT", "/os-services/disable", _RULE + "update", until=52, body=_BY_HOST)
async def disable(call: Call) -> Any:
    return await _switch(call, True, None)


@operation("PUT", "/os-services/disable-log-reason", _RULE + "update", until=52, body=_BY_HOST)
async def disable_with_reason(call: Call) -> Any:
    if "disabled_reason" not in call.body:
        raise BadRequest("Missing disabled reason field")
    return await _switch(call, True, call.body["disabled_reason"])


@operation("PUT", "/os-services/force-down", _RULE + "update", since=11, until=52, body=_BY_HOST)
async def force_down(call: Call) -> Any:
    if "forced_down" not in call.body:
        raise BadRequest("Missing forced_down field")
    row = await _by_host(call)
    row.forced_down = int(s.as_bool(call.body["forced_down"]))
    await _save(call, row)
    return {"service": {"host": row.host, "binary": row.binary, "forced_down": bool(row.forced_down)}}


async def _by_id(call: Call) -> ServiceRow:
    wanted = call.params["service_id"]
    whole = call.services.databases.global_
    if call.has("uuids"):
        if len(wanted.replace("-", "")) != 32:
            raise BadRequest(f"Invalid uuid {wanted[:100]}")
        row = await whole.fetch_one(rows.BY_UUID, {"uuid": wanted.lower()})
    else:
        if not (wanted.isascii() and wanted.isdigit() and len(wanted) < 19):
            raise BadRequest(f"Invalid service id {wanted[:100]}: it must be an integer.")
        row = await whole.fetch_one(rows.BY_NUMBER, {"number": int(wanted)})
    if row is None:
        raise NotFound(f"Service {wanted[:100]} could not be found.")
    return service(row)


_UUIDS = {"uuids": Span(53)}


@operation("PUT", "/os-services/{service_id}", _RULE + "update", since=53, body=_CHANGE, facets=_UUIDS)
async def update(call: Call) -> Any:
    row, body = await _by_id(call), call.body
    _only_compute(row.binary)
    if not body:
        raise BadRequest("No updates were requested. Fields 'status' or 'forced_down' should be specified.")
    if "disabled_reason" in body and body.get("status") != "disabled":
        raise BadRequest("Specifying disabled_reason requires that status is disabled.")
    if "status" in body:
        row.disabled = int(body["status"] == "disabled")
        row.disabled_reason = body.get("disabled_reason") if row.disabled else None
    if "forced_down" in body:
        row.forced_down = int(s.as_bool(body["forced_down"]))
    await _save(call, row)
    look = _Look(call, await zones_of_hosts(call.services))
    return {"service": _VIEW.render(row, look, call.version)}


async def _delete(tx: Tx, args: tuple[str, int]) -> bool:
    return await rows.delete(tx, *args)


@operation("DELETE", "/os-services/{service_id}", _RULE + "delete", success=204, facets=_UUIDS)
async def delete(call: Call) -> None:
    row = await _by_id(call)
    if row.binary == "nova-compute":
        for cell in dict.fromkeys(call.services.databases.cells.values()):
            if await cell.fetch_one(rows.HAS_SERVERS, {"host": row.host}) is not None:
                raise Conflict(
                    "Unable to delete compute service that is hosting instances. "
                    "Migrate or delete the instances first."
                )
    services = call.services
    if not await services.databases.global_.write(_delete, (row.uuid, services.clock())):
        raise NotFound(f"Service {row.uuid} could not be found.")
    services.host_flags = None


OPERATIONS = (index, enable, disable, disable_with_reason, force_down, update, delete)
