"""GET, PUT and DELETE of one server."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from kilonova.api.microversion.version import LATEST
from kilonova.api.operation import WEIGHED, Call, operation
from kilonova.api.servers.admitting import delete_server
from kilonova.api.servers.fields import SERVER
from kilonova.api.servers.finding import Found, find, locate, missing
from kilonova.api.servers.naming import address
from kilonova.api.servers.viewing import answer
from kilonova.db.database import Tx
from kilonova.db.queries import server_index
from kilonova.db.queries.server_state import change
from kilonova.http.errors import Conflict
from kilonova.http.message import Response
from kilonova.model.server import Server

_UPDATE = SERVER.body("update_body", wrapper="server")
_COLUMNS = {
    "name": "name", "description": "description", "hostname": "hostname", "accessIPv4": "access_ip_v4",
    "accessIPv6": "access_ip_v6", "OS-DCF:diskConfig": "disk_config", "pinned_availability_zone": "pinned_zone",
}  # fmt: skip
_TRIES = 5


async def show(call: Call) -> Response:
    """One server."""
    found = await find(call, "os_compute_api:servers:show")
    return await answer(call, found.server)


class _Change(Struct, frozen=True):
    found: Found
    fields: dict[str, Any]
    now: int


async def _change_placed(tx: Tx, asked: _Change) -> bool:
    return await change(tx, asked.found.server.uuid, asked.fields, asked.now)


async def _change_unplaced(tx: Tx, asked: _Change) -> bool:
    return await server_index.rewrite(tx, asked.found.server, asked.found.generation)


async def _rename(tx: Tx, asked: _Change) -> None:
    await server_index.rename(tx, asked.found.server.uuid, asked.fields["name"])


async def update(call: Call) -> Response:
    """Change what a user may change at any time; the answer shows the server afterwards."""
    found = await find(call, "os_compute_api:servers:update")
    body: dict[str, Any] = call.body["server"]
    fields = {_COLUMNS[name]: value for name, value in body.items() if name in _COLUMNS}
    if "name" in fields:
        fields["name"] = fields["name"].strip()
    for column in ("access_ip_v4", "access_ip_v6"):
        if column in fields:
            fields[column] = address(fields[column])
    if "pinned_availability_zone" in body:
        _repin(found.server, body["pinned_availability_zone"])
    uuid = found.server.uuid
    for _ in range(_TRIES):
        if await _write(call, found, fields):
            break
        again = await locate(call.services, uuid)
        if again is None:
            raise missing(uuid)
        found = again
    else:
        raise Conflict(f"Instance {uuid} is being changed by another request; try again")
    return await answer(call, found.server, "update")


async def _write(call: Call, found: Found, fields: dict[str, Any]) -> bool:
    now = call.services.clock()
    asked = _Change(found, fields, now)
    if not fields:
        return True
    if found.database is None:
        for name, value in fields.items():
            setattr(found.server, name, value)
        found.server.updated_at = now
        return await call.services.databases.global_.write(_change_unplaced, asked)
    if not await found.database.write(_change_placed, asked):
        return False
    if "name" in fields:
        await call.services.databases.global_.write(_rename, asked)
    again = await locate(call.services, found.server.uuid)
    if again is not None:
        found.server = again.server
    return True


def _repin(server: Server, zone: str | None) -> None:
    """2.104: only to nothing, or to the zone the server is in."""
    if zone is not None and zone != server.availability_zone:
        raise Conflict(
            f"Instance {server.uuid} can be pinned only to its own availability zone, or to none"
        )


async def delete(call: Call) -> None:
    """Admitted in every state; the rest is a story."""
    await delete_server(call, "os_compute_api:servers:delete", force=False)


def _declare(method: str, function: Any, **more: Any) -> list[Any]:
    return [
        operation(method, f"{path}/{{server_id}}", WEIGHED, until=until, **more)(function)
        for path, until in (("/servers", LATEST), ("/os-volumes_boot", 102))
    ]


OPERATIONS = (
    *_declare("GET", show),
    *_declare("PUT", update, body=_UPDATE),
    *_declare("DELETE", delete, success=204),
)
