"""A real Neutron behind `NetworkPort`, written to by our own account, which is an admin there.

Neutron has no fences and chooses ids itself. So every port that is made carries the id our caller chose (as a tag,
or in its name where ports can't be tagged while they are made), is looked for before it is made, and is known by
that mark when a server's ports are removed: ports that users made are only unbound.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from kilonova.http.neighbour import Answer, Neighbour, NeighbourAway
from kilonova.model.credentials import Credentials
from kilonova.model.operation import RequestedNetwork
from kilonova.model.server import Address
from kilonova.network.port import (
    NetworkAmbiguous,
    NetworkConflict,
    NetworkError,
    NetworkNotFound,
    NetworkUnavailable,
    PortRequest,
)

_MARK = "kilonova:"
_OWNER = "compute:nova"
_PAGE = 1000
_TAGGING = "tag-ports-during-bulk-creation"
_SEVERAL = "Multiple possible networks found, use a Network ID to be more specific."
_ID = re.compile(r"[0-9A-Za-z-]{1,64}\Z")
Json = dict[str, Any]


class NeutronClient:
    """``NeutronClient(Neighbour("Neutron", endpoint, tokens))``; `endpoint` is without ``/v2.0``."""

    def __init__(self, neutron: Neighbour) -> None:
        self._neutron = neutron
        self._tags: bool | None = None

    def __repr__(self) -> str:
        return f"NeutronClient({self._neutron!r})"

    async def resolve(
        self, creds: Credentials, requested: tuple[RequestedNetwork, ...] | None, count: int = 1
    ) -> tuple[RequestedNetwork, ...]:
        """See `NetworkPort.resolve`."""
        if requested is None:
            found = await self._usable(creds)
            if len(found) > 1:
                raise NetworkAmbiguous(_SEVERAL)
            return tuple(RequestedNetwork(network_id=each["id"]) for each in found)
        return tuple([await self._checked(creds, each) for each in requested])

    async def auto_allocate(self, creds: Credentials) -> tuple[RequestedNetwork, ...]:
        """The project's only network, or the topology that Neutron makes for it."""
        found = await self._usable(creds)
        if len(found) > 1:
            raise NetworkAmbiguous(_SEVERAL)
        if found:
            return (RequestedNetwork(network_id=found[0]["id"]),)
        answer = await self._ask("GET", f"/auto-allocated-topology/{quote(creds.project_id or '', safe='')}")
        network_id = answer.word("auto_allocated_topology", "id")
        if answer.status != 200 or not network_id:
            raise NetworkError("There is no network that could be given to the server automatically.")
        return (RequestedNetwork(network_id=network_id),)

    async def ensure_ports(self, request: PortRequest) -> tuple[Address, ...]:
        """See `NetworkPort.ensure_ports`; what was made before a failure is found by the next try or removed."""
        there = await self._list("ports", ("device_id", request.server))
        networks: dict[str, Json] = {}
        groups: list[str] | None = None
        result = []
        for port_id, wanted in zip(request.port_ids, request.networks, strict=True):
            if wanted.port_id is not None:
                port = await self._given(wanted.port_id, request)
            else:
                found = next((each for each in there if _marked(each) == port_id), None)
                if found is None:
                    if groups is None:
                        groups = await self._groups(request)
                    found = await self._make(port_id, wanted, groups, request)
                port = await self._bound(found, request)
            network = networks.get(port["network_id"]) or await self._network(port["network_id"])
            networks[port["network_id"]] = network
            result.append(_address(port, network, wanted))
        return tuple(result)

    async def ensure_no_ports(self, server: str, keep: tuple[str, ...] = ()) -> None:
        for port in await self._list("ports", ("device_id", server)):
            path = f"/ports/{port['id']}"
            if _marked(port) and port["id"] not in keep:
                answer = await self._ask("DELETE", path)
            else:
                free = {"device_id": "", "device_owner": "", "binding:host_id": ""}
                answer = await self._ask("PUT", path, {"port": free})
            if answer.status != 404:
                _expect(answer, 200, 204)

    async def held(self, after: str = "") -> list[tuple[str, str]]:
        """See `NetworkPort.held`. Neutron pages by a port that must still be there: so this reads all of them."""
        query = [("device_owner", _OWNER), *(("fields", name) for name in ("id", "device_id", "name", "tags"))]
        found = await self._list("ports", *query)
        ours = [(each["id"], each["device_id"]) for each in found if _marked(each) and each.get("device_id")]
        return sorted(pair for pair in ours if pair[0] > after)[:_PAGE]

    async def names(self, creds: Credentials, network_ids: tuple[str, ...]) -> dict[str, str]:
        if not network_ids:
            return {}
        found = await self._list("networks", *(("id", each) for each in dict.fromkeys(network_ids)))
        return {each["id"]: each.get("name") or "" for each in found if await self._sees(each, creds)}

    # networks

    async def _usable(self, creds: Credentials) -> list[Json]:
        """The project's own and the shared ones, but external ones only if they are shared."""
        project = creds.project_id or ""
        found = await self._list("networks", ("project_id", project), ("shared", "false"))
        found += await self._list("networks", ("shared", "true"))
        given = await self._given_by_rbac(project)
        known = {each["id"] for each in found}
        if given - known:
            found += await self._list("networks", *(("id", each) for each in sorted(given - known)))
        unique = {each["id"]: each for each in found}
        return [each for each in unique.values() if not each.get("router:external") or each.get("shared")]

    async def _given_by_rbac(self, project: str) -> set[str]:
        query = [("object_type", "network"), ("action", "access_as_shared"), ("target_tenant", project)]
        answer = await self._ask("GET", "/rbac-policies", query=query)
        body = answer.body if isinstance(answer.body, dict) else {}
        return {each["object_id"] for each in body.get("rbac_policies", ()) if each.get("target_tenant") == project}

    async def _sees(self, network: Json, creds: Credentials) -> bool:
        if creds.is_admin or network.get("shared") or network.get("router:external"):
            return True
        if network.get("project_id") == creds.project_id:
            return True
        return network["id"] in await self._given_by_rbac(creds.project_id or "")

    async def _network(self, network_id: str) -> Json:
        if not _ID.match(network_id):
            raise NetworkNotFound(f"Network {network_id[:100]} could not be found.")
        answer = await self._ask("GET", f"/networks/{network_id}")
        _expect(answer, 200)
        found: Json = answer.body["network"]
        return found

    async def _checked(self, creds: Credentials, wanted: RequestedNetwork) -> RequestedNetwork:
        if wanted.port_id is not None:
            port = await self._port(wanted.port_id)
            if not creds.is_admin and port.get("project_id") != creds.project_id:
                raise NetworkNotFound(f"Port {wanted.port_id} could not be found.")
            if port.get("device_id"):
                raise NetworkConflict(f"Port {port['id']} is still in use.")
            if not port.get("fixed_ips"):
                raise NetworkError(f"Port {port['id']} requires a FixedIP in order to be used.")
            return RequestedNetwork(network_id=port["network_id"], port_id=port["id"], tag=wanted.tag)
        network = await self._network(wanted.network_id)
        if not await self._sees(network, creds):
            raise NetworkNotFound(f"Network {wanted.network_id} could not be found.")
        if network.get("router:external") and not network.get("shared") and not creds.is_admin:
            raise NetworkError(f"It is not allowed to create an interface on external network {network['id']}.")
        if not network.get("subnets"):
            raise NetworkError(f"Network {network['id']} requires a subnet in order to boot instances on.")
        if wanted.fixed_ip is not None:
            taken = await self._list(
                "ports", ("network_id", network["id"]), ("fixed_ips", f"ip_address={wanted.fixed_ip}")
            )
            if taken:
                raise NetworkError(f"Fixed IP address {wanted.fixed_ip} is already in use on network {network['id']}.")
        return wanted

    # ports

    async def _port(self, port_id: str) -> Json:
        if not _ID.match(port_id):
            raise NetworkNotFound(f"Port {port_id[:100]} could not be found.")
        answer = await self._ask("GET", f"/ports/{port_id}")
        _expect(answer, 200)
        found: Json = answer.body["port"]
        return found

    async def _given(self, port_id: str, request: PortRequest) -> Json:
        port = await self._port(port_id)
        if port.get("device_id") not in ("", request.server):
            raise NetworkConflict(f"Port {port_id} is still in use.")
        return await self._bound(port, request)

    async def _bound(self, port: Json, request: PortRequest) -> Json:
        if (port.get("device_id"), port.get("binding:host_id")) != (request.server, request.host):
            changes = {"device_id": request.server, "device_owner": _OWNER, "binding:host_id": request.host}
            answer = await self._ask("PUT", f"/ports/{port['id']}", {"port": changes})
            _expect(answer, 200)
            port = answer.body["port"]
        if port.get("binding:vif_type") == "binding_failed":
            raise NetworkError(f"Binding failed for port {port['id']} on host {request.host}.")
        return port

    async def _make(self, port_id: str, wanted: RequestedNetwork, groups: list[str], request: PortRequest) -> Json:
        port: Json = {
            "network_id": wanted.network_id, "project_id": request.project_id, "device_id": request.server,
            "device_owner": _OWNER, "binding:host_id": request.host, "admin_state_up": True,
        }  # fmt: skip
        if await self._can_tag():
            port["tags"] = [_MARK + port_id]
        else:
            port["name"] = _MARK + port_id
        if wanted.fixed_ip is not None:
            port["fixed_ips"] = [{"ip_address": wanted.fixed_ip}]
        if groups:
            port["security_groups"] = groups
        answer = await self._ask("POST", "/ports", {"port": port})
        _expect(answer, 201)
        found: Json = answer.body["port"]
        return found

    async def _can_tag(self) -> bool:
        if self._tags is None:
            answer = await self._ask("GET", "/extensions")
            _expect(answer, 200)
            aliases = {each.get("alias") for each in answer.body["extensions"]}
            self._tags = _TAGGING in aliases
        return self._tags

    async def _groups(self, request: PortRequest) -> list[str]:
        """Ids of the named groups; none named: Neutron's own choice, the project's default group."""
        names = [each for each in request.security_groups if each != "default"]
        if not names:
            return []
        known = await self._list("security-groups", ("project_id", request.project_id))
        found = []
        for name in request.security_groups:
            ids = [each["id"] for each in known if name in (each["id"], each["name"])]
            if not ids:
                raise NetworkNotFound(f"Security group {name} not found.")
            if len(ids) > 1:
                raise NetworkConflict(f"Multiple security groups are named {name}; use an id.")
            found += ids
        return list(dict.fromkeys(found))

    # requests

    async def _ask(
        self, method: str, path: str, body: Any = None, query: Sequence[tuple[str, str]] = ()
    ) -> Answer:
        try:
            return await self._neutron.ask(method, f"/v2.0{path}", body, query=query)
        except NeighbourAway as error:
            raise NetworkUnavailable(str(error)) from None

    async def _list(self, collection: str, *query: tuple[str, str]) -> list[Json]:
        answer = await self._ask("GET", f"/{collection}", query=query)
        _expect(answer, 200)
        found: list[Json] = answer.body[collection.replace("-", "_")]
        return found


def _marked(port: Json) -> str:
    """The id our caller chose for a port; "" for a port that is not ours."""
    for text in (*port.get("tags", ()), port.get("name") or ""):
        if text.startswith(_MARK):
            return str(text.removeprefix(_MARK))
    return ""


def _expect(answer: Answer, *statuses: int) -> None:
    """Raise what another answer means. Raises NetworkError and its kin, NetworkUnavailable."""
    if answer.status in statuses and (isinstance(answer.body, dict) or answer.status == 204):
        return
    message = answer.word("NeutronError", "message") or f"The network service answers {answer.status}."
    kind = answer.word("NeutronError", "type")
    if answer.status == 404:
        raise NetworkNotFound(message)
    if answer.status == 409 and kind != "OverQuota":
        raise NetworkConflict(message)
    if 400 <= answer.status < 500:
        raise NetworkError(message)
    raise NetworkUnavailable(message)


def _address(port: Json, network: Json, wanted: RequestedNetwork) -> Address:
    ips = [each["ip_address"] for each in port.get("fixed_ips", ())]
    return Address(
        port_id=port["id"], network_id=port["network_id"], label=network.get("name") or "", mac=port["mac_address"],
        ips=tuple((ip, 6 if ":" in ip else 4) for ip in ips), mtu=network.get("mtu") or 1500, tag=wanted.tag,
        preexisting=wanted.port_id is not None,
    )  # fmt: skip
