"""Ports of servers, each function one transaction that may be repeated: made or found, unbound or deleted.

A port that was made here (`made`) goes with its server; one that a user made is only bound and unbound.
"""

from __future__ import annotations

from msgspec import Struct

from kilonova.db.database import Tx
from kilonova.db.queries import networks as queries
from kilonova.db.queries.networks import PORTS, PortRow
from kilonova.model.operation import RequestedNetwork
from kilonova.model.server import Address
from kilonova.network import addresses, allocation
from kilonova.network.allocation import Hints, LayoutChanged, Plan
from kilonova.network.default_group import ensure_default_group
from kilonova.network.port import NetworkConflict, NetworkNotFound, PortRequest

OWNER = "compute:nova"
_MACS = 10


class Binding(Struct, frozen=True, kw_only=True):
    """What `bind` needs."""

    request: PortRequest
    hints: Hints
    now: int


async def bind(tx: Tx, args: Binding) -> tuple[Address, ...]:
    """Raises NetworkNotFound, NetworkConflict, LayoutChanged."""
    request = args.request
    there = {row[0]: PORTS.row(row) for row in await tx.fetch(queries.PORTS_OF, {"device": request.server})}
    plans: dict[str, Plan] = {}
    made: dict[str, int] = {}
    groups: list[str] | None = None
    result = []
    for port_id, wanted in zip(request.port_ids, request.networks, strict=True):
        if wanted.port_id is not None:
            port = there.get(wanted.port_id) or await _given(tx, wanted.port_id, request)
            found = await _plan(tx, plans, port.network_id)
            await _host(tx, port, request, args.now)
        else:
            found = await _plan(tx, plans, wanted.network_id)
            port_row = there.get(port_id)
            if port_row is None:
                if groups is None:
                    groups = await _groups(tx, request, args.now)
                port_row = await _make(tx, found, port_id, wanted, groups, args)
                made[found.network_id] = made.get(found.network_id, 0) + 1
            else:
                await _host(tx, port_row, request, args.now)
            port = port_row
        result.append(_address(port, found, wanted))
    for network_id, count in sorted(made.items()):
        await allocation.join(tx, plans[network_id], count)
    return tuple(result)


async def _plan(tx: Tx, plans: dict[str, Plan], network_id: str) -> Plan:
    found = plans.get(network_id) or await allocation.plan(tx, network_id)
    if found is None:
        raise NetworkNotFound(f"Network {network_id} could not be found.")
    plans[network_id] = found
    return found


async def _given(tx: Tx, port_id: str, request: PortRequest) -> PortRow:
    port = await PORTS.find(tx, port_id)
    if port is None:
        raise NetworkNotFound(f"Port {port_id} could not be found.")
    if port.device_id not in ("", request.server):
        raise NetworkConflict(f"Port {port_id} is still in use.")
    return port


async def _host(tx: Tx, port: PortRow, request: PortRequest, now: int) -> None:
    if (port.device_id, port.host, port.status) == (request.server, request.host, "ACTIVE"):
        return
    port.device_id, port.device_owner, port.host, port.status = request.server, OWNER, request.host, "ACTIVE"
    port.updated_at = now
    if not await PORTS.update(tx, port):
        raise NetworkConflict(f"Port {port.id} is still in use.")


async def _groups(tx: Tx, request: PortRequest, now: int) -> list[str]:
    found = []
    for name in request.security_groups or ("default",):
        if name == "default":
            found.append(await ensure_default_group(tx, request.project_id, now))
            continue
        rows = await tx.fetch(queries.GROUPS_NAMED, {"project": request.project_id, "name": name})
        if not rows:
            raise NetworkNotFound(f"Security group {name} not found.")
        if len(rows) > 1:
            raise NetworkConflict(f"Multiple security groups are named {name}; use an id.")
        found.append(rows[0][0])
    return list(dict.fromkeys(found))


async def _make(
    tx: Tx, found: Plan, port_id: str, wanted: RequestedNetwork, groups: list[str], args: Binding
) -> PortRow:
    request = args.request
    port = PortRow(
        port_id, found.network_id, request.project_id, status="ACTIVE", mac=addresses.new_mac(),
        device_id=request.server, device_owner=OWNER, host=request.host, groups=addresses.encoded(groups), made=1,
        created_at=args.now, updated_at=args.now,
    )  # fmt: skip
    if wanted.fixed_ip is not None:
        subnet = allocation.subnet_for(found, wanted.fixed_ip)
        ips = [(subnet.id, await allocation.take(tx, found.network_id, subnet, port_id, wanted.fixed_ip))]
    else:
        ips = await allocation.allocate_any(tx, found, port_id, port.mac, args.hints)
    port.ips = addresses.encoded([{"subnet_id": subnet, "ip_address": ip} for subnet, ip in ips])
    await insert(tx, port, own_mac=not any(s.address_mode in addresses.SLAAC for s in found.subnets))
    for group in groups:
        await tx.execute(queries.JOIN_GROUP, {"group": group, "port": port_id})
    return port


async def insert(tx: Tx, port: PortRow, own_mac: bool = True) -> None:
    """Insert a port; with `own_mac` (and no address made from it) another MAC is chosen where it is taken.

    Raises NetworkConflict.
    """
    for _ in range(_MACS if own_mac else 1):
        if await PORTS.insert(tx, port):
            return
        if await PORTS.find(tx, port.id) is not None:
            raise NetworkConflict(f"Port {port.id} exists and belongs to another device.")
        port.mac = addresses.new_mac()
    raise NetworkConflict(f"The MAC address of port {port.id} is in use on network {port.network_id}.")


def _address(port: PortRow, found: Plan, wanted: RequestedNetwork) -> Address:
    ips = addresses.decoded(port.ips)
    return Address(
        port_id=port.id, network_id=port.network_id, label=found.name, mac=port.mac,
        ips=tuple((each["ip_address"], 6 if ":" in each["ip_address"] else 4) for each in ips), mtu=found.mtu,
        tag=wanted.tag, preexisting=wanted.port_id is not None,
    )  # fmt: skip


class Release(Struct, frozen=True, kw_only=True):
    """What `unbind` needs."""

    server: str
    keep: frozenset[str]
    now: int


async def unbind(tx: Tx, args: Release) -> None:
    """Delete a server's own ports, unbind the others; there may be none. Raises LayoutChanged."""
    gone: dict[str, int] = {}
    for row in await tx.fetch(queries.PORTS_OF, {"device": args.server}):
        port = PORTS.row(row)
        if port.made and port.id not in args.keep:
            await drop(tx, port)
            gone[port.network_id] = gone.get(port.network_id, 0) + 1
            continue
        port.device_id = port.device_owner = port.host = ""
        port.status, port.made, port.updated_at = "DOWN", 0, args.now
        if not await PORTS.update(tx, port):
            raise LayoutChanged
    for network_id, count in sorted(gone.items()):
        await tx.execute(queries.LEAVE, {"network": network_id, "n": count})


async def drop(tx: Tx, port: PortRow) -> None:
    """Delete a port and what it holds; counting it out of its network is the caller's."""
    await tx.execute(queries.FREE_ADDRESSES, {"port": port.id})
    await tx.execute(queries.LEAVE_GROUPS, {"port": port.id})
    if port.tags != "[]":
        await queries.set_tags(tx, port.id, [])
    await PORTS.delete(tx, port.id)
