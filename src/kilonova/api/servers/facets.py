"""What hangs on a server and is read: addresses, security groups, ports."""

from __future__ import annotations

from typing import Any

import msgspec

from kilonova.api.microversion.fields import Field, Resource
from kilonova.api.operation import WEIGHED, Call, operation
from kilonova.api.servers.fields import addresses
from kilonova.api.servers.finding import find
from kilonova.http.errors import NotFound
from kilonova.model.server import Address

_addresses = msgspec.json.Decoder(tuple[Address, ...]).decode
_names = msgspec.json.Decoder(list[str]).decode

INTERFACE = Resource(
    "interfaceAttachment",
    [
        Field("port_id", show=lambda v, _: v.port_id),
        Field("net_id", show=lambda v, _: v.network_id),
        Field("mac_addr", show=lambda v, _: v.mac),
        Field("port_state", show=lambda v, _: "ACTIVE"),
        Field("fixed_ips", show=lambda v, _: [{"ip_address": ip, "subnet_id": ""} for ip, _version in v.ips]),
        Field("tag", since=70, show=lambda v, _: v.tag),
    ],
)
_INTERFACE = INTERFACE.view()


@operation("GET", "/servers/{server_id}/ips", WEIGHED)
async def ips(call: Call) -> Any:
    found = await find(call, "os_compute_api:ips:index")
    return {"addresses": addresses(found.server, extended=False)}


@operation("GET", "/servers/{server_id}/ips/{label}", WEIGHED)
async def ips_of(call: Call) -> Any:
    found = await find(call, "os_compute_api:ips:show")
    label = call.params["label"]
    shown = addresses(found.server, extended=False)
    if label not in shown:
        raise NotFound("Instance is not a member of specified network")
    return {label: shown[label]}


@operation("GET", "/servers/{server_id}/os-security-groups", WEIGHED)
async def groups(call: Call) -> Any:
    found = await find(call, "os_compute_api:os-security-groups:list")
    listed = _names(found.server.security_groups) if found.server.addresses != "[]" else []
    return {
        "security_groups": [
            {"id": name, "name": name, "description": "", "tenant_id": found.server.project_id, "rules": []}
            for name in listed
        ]
    }


@operation("GET", "/servers/{server_id}/os-interface", WEIGHED)
async def interfaces(call: Call) -> Any:
    found = await find(call, "os_compute_api:os-attach-interfaces:list")
    ports = _addresses(found.server.addresses)
    return {"interfaceAttachments": [_INTERFACE.render(port, None, call.version) for port in ports]}


@operation("GET", "/servers/{server_id}/os-interface/{port_id}", WEIGHED)
async def interface(call: Call) -> Any:
    found = await find(call, "os_compute_api:os-attach-interfaces:show")
    wanted = call.params["port_id"].lower()
    for port in _addresses(found.server.addresses):
        if port.port_id == wanted:
            return {"interfaceAttachment": _INTERFACE.render(port, None, call.version)}
    raise NotFound(f"Port {wanted[:100]} could not be found.")


@operation("GET", "/servers/{server_id}/os-volume_attachments", WEIGHED)
async def volumes(call: Call) -> Any:
    await find(call, "os_compute_api:os-volumes-attachments:index")
    return {"volumeAttachments": []}


OPERATIONS = (ips, ips_of, groups, interfaces, interface, volumes)
