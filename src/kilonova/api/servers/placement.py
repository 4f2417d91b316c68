"""Where a user wants servers: zone, host and node out of `availability_zone`, `host`, `hypervisor_hostname`."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from kilonova.api.operation import Call
from kilonova.db.queries.zones import HOST_EXISTS, NODE_EXISTS, ZONES
from kilonova.http.errors import BadRequest

_FORCED = "os_compute_api:servers:create:forced_host"
_REQUESTED = "compute:servers:create:requested_destination"


class Destination(Struct, frozen=True, kw_only=True):
    """What was asked for; `force`: the filters do not run."""

    zone: str | None = None
    host: str | None = None
    node: str | None = None
    force: bool = False


def _split(text: str) -> tuple[str, str | None, str | None]:
    """``zone``, ``zone:host``, ``zone:host:node``, ``zone::node``."""
    parts = text.split(":")
    if len(parts) > 3:
        raise BadRequest("Unable to parse availability_zone")
    zone, host, node = [*parts, "", ""][:3]
    return zone, host or None, node or None


async def destination(call: Call, body: dict[str, Any]) -> Destination:
    """Check and return where the servers shall go. Raises BadRequest, Forbidden."""
    settings = call.services.settings
    zone, host, node = _split(body.get("availability_zone") or "")
    if host or node:
        call.authorize(_FORCED)
    force = bool(host or node)
    asked_host, asked_node = body.get("host"), body.get("hypervisor_hostname")
    if asked_host or asked_node:
        call.authorize(_REQUESTED)
        if force:
            raise BadRequest("The host and hypervisor_hostname fields may not be combined with a forced host.")
        await _known(call, asked_host, asked_node)
        host, node = asked_host, asked_node
    if zone and zone != settings.default_zone:
        rows = await call.services.databases.global_.fetch(ZONES, {})
        if zone not in {row[0] for row in rows}:
            raise BadRequest("The requested availability zone is not available")
    return Destination(zone=zone or settings.schedule_zone, host=host, node=node, force=force)


async def _known(call: Call, host: str | None, node: str | None) -> None:
    whole = call.services.databases.global_
    if host and await whole.fetch_one(HOST_EXISTS, {"host": host}) is None:
        raise BadRequest(f"Compute host {host} could not be found.")
    if node and await whole.fetch_one(NODE_EXISTS, {"node": node}) is None:
        raise BadRequest(f"Compute host {node} could not be found.")
