"""Rendering servers for one caller: which fields a policy adds, and the bytes of one or many."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from kilonova.api.host_status import host_status
from kilonova.api.operation import Call
from kilonova.api.servers.fields import ATTRIBUTES, EXTRA_SPECS, HOST_STATUS, SERVER, Look
from kilonova.http.message import Response
from kilonova.model.server import Server

_encode = msgspec.json.Encoder().encode
_VIEWS = {name: SERVER.view(name) for name in ("show", "detail", "update", "brief")}

_RULES = {
    ATTRIBUTES: "os_compute_api:os-extended-server-attributes",
    EXTRA_SPECS: "os_compute_api:servers:show:flavor-extra-specs",
    HOST_STATUS: "os_compute_api:servers:show:host_status",
}
_UNKNOWN_ONLY = "os_compute_api:servers:show:host_status:unknown-only"


def flags_of(call: Call, target: dict[str, str] | None) -> frozenset[str]:
    """What policies add to the view; `target` None: the caller's own project."""
    return frozenset(flag for flag, rule in _RULES.items() if call.may(rule, target))


async def look_of(call: Call, flags: frozenset[str]) -> Look:
    """The context in which servers are rendered."""
    status = await host_status(call.services) if HOST_STATUS in flags and call.version >= _STATUS_SINCE else None
    return Look(
        base=call.request.state["base"], admin=call.policy.is_admin(call.creds), extra_specs=EXTRA_SPECS in flags,
        host_status=status, default_zone=call.services.settings.default_zone,
    )  # fmt: skip


_STATUS_SINCE = next(each.since for each in SERVER.fields if each.name == "host_status")


async def shown(call: Call, server: Server, view: str = "show") -> dict[str, Any]:
    """One server as the caller may see it."""
    flags = flags_of(call, {"project_id": server.project_id, "user_id": server.user_id})
    return _VIEWS[view].render(server, await look_of(call, flags), call.version, flags)


async def answer(call: Call, server: Server, view: str = "show") -> Response:
    """``{"server": {...}}``."""
    body = _encode({"server": await shown(call, server, view)})
    return Response(call.operation.status(call.version), body, media="application/json")


def renderer(view: str, look: Look, version: int, flags: frozenset[str]) -> Callable[[Iterable[Server]], list[Any]]:
    """A function that renders many servers; pure, for where the rows arrive."""
    render = _VIEWS[view].render
    return lambda servers: [render(server, look, version, flags) for server in servers]
