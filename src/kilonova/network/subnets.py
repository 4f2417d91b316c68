"""Subnets on the wire. Every change of a network's subnets changes its layout: see `db.schema.network`."""

from __future__ import annotations

import ipaddress
from typing import Any
from uuid import uuid4

from kilonova.db.database import Tx
from kilonova.db.queries import networks as queries
from kilonova.db.queries.networks import NETWORKS, SUBNETS, NetworkRow, SubnetRow
from kilonova.db.statement import Value
from kilonova.network import addresses
from kilonova.network import attributes as a
from kilonova.network.addresses import Net, decoded, encoded
from kilonova.network.allocation import LayoutChanged
from kilonova.network.errors import bad, conflict, invalid, over_quota
from kilonova.network.networks import RESOURCE as NETWORK
from kilonova.network.resource import TAGS, Ask, Change, Resource, base_view, raw

_MODES = (None, "slaac", "dhcpv6-stateful", "dhcpv6-stateless")
_ROUTES = a.several(a.members(required={"destination": a.cidr, "nexthop": a.ip}), 20)
_POOLS = a.several(a.members(required={"start": a.ip, "end": a.ip}), 100)


def view(row: SubnetRow, admin: bool) -> dict[str, Any]:
    return {
        **base_view(row),
        "name": row.name,
        "network_id": row.network_id,
        "ip_version": row.ip_version,
        "cidr": row.cidr,
        "gateway_ip": row.gateway_ip,
        "enable_dhcp": bool(row.enable_dhcp),
        "ipv6_ra_mode": row.ra_mode,
        "ipv6_address_mode": row.address_mode,
        "allocation_pools": raw(row.pools),
        "dns_nameservers": raw(row.dns),
        "host_routes": raw(row.routes),
        "service_types": raw(row.service_types),
        "subnetpool_id": None,
        "tags": raw(row.tags),
    }


async def create(tx: Tx, ask: Ask) -> SubnetRow:
    values = ask.values
    network = await NETWORK.own(tx, values["network_id"], ask.creds)
    row = _new(ask, network)
    others = [SUBNETS.row(each) for each in await tx.fetch(queries.SUBNETS_OF, {"network": network.id})]
    net = addresses.network(row.cidr)
    for other in others:
        if addresses.network(other.cidr).overlaps(net):
            raise invalid(
                f"Requested subnet with cidr: {row.cidr} for network: {network.id} overlaps with another subnet"
            )
    await SUBNETS.insert(tx, row)
    await queries.set_tags(tx, row.id, values["tags"], fresh=True)
    await _relayout(tx, network, [*decoded(network.subnets), row.id], ask.now)
    if not await queries.take_quota(tx, row.project_id, "subnet", 1, ask.limits.subnet):
        raise over_quota("subnet")
    return row


def _new(ask: Ask, network: NetworkRow) -> SubnetRow:
    values = ask.values
    net = addresses.network(values["cidr"])
    if net.version != values["ip_version"]:
        raise bad(f"ip_version {values['ip_version']} does not match cidr {values['cidr']}.")
    if net.prefixlen < 8:
        raise invalid("a subnet is at least a /8")
    modes = (values["ipv6_ra_mode"], values["ipv6_address_mode"])
    if net.version == 4 and modes != (None, None):
        raise bad("ipv6_ra_mode and ipv6_address_mode are for IPv6 subnets.")
    if None not in modes and modes[0] != modes[1]:
        raise invalid("ipv6_ra_mode and ipv6_address_mode must be the same")
    if modes[1] in addresses.SLAAC and net.prefixlen != 64:
        raise invalid("a subnet whose addresses follow from the MAC is a /64")
    gateway = values["gateway_ip"] if "gateway_ip" in values else addresses.default_gateway(net)
    _check_gateway(net, gateway)
    pools = values.get("allocation_pools")
    if pools is None:
        pools = addresses.default_pools(net, gateway)
    _check_pools(net, pools, gateway)
    return SubnetRow(
        str(uuid4()), network.id, values.get("project_id") or network.project_id, values["name"], values["description"],
        net.version, values["cidr"], gateway, enable_dhcp=values["enable_dhcp"], ra_mode=modes[0],
        address_mode=modes[1], pools=encoded(pools), dns=encoded(values["dns_nameservers"]),
        routes=encoded(values["host_routes"]), service_types=encoded(values["service_types"]),
        tags=encoded(sorted(values["tags"])), created_at=ask.now, updated_at=ask.now,
    )  # fmt: skip


def _check_gateway(net: Net, gateway: str | None) -> None:
    if gateway is None:
        return
    address = ipaddress.ip_address(gateway)
    if address.version != net.version:
        raise bad(f"gateway_ip {gateway} is not of the subnet's IP version.")
    if address in net and net.num_addresses > 2:
        first, last = addresses.usable(net)
        if not first <= int(address) <= last:
            raise bad(f"Gateway {gateway} is not valid on subnet {net}.")


def _check_pools(net: Net, pools: list[dict[str, str]], gateway: str | None) -> None:
    first, last = addresses.usable(net)
    seen: list[tuple[int, int]] = []
    for pool in pools:
        start, end = ipaddress.ip_address(pool["start"]), ipaddress.ip_address(pool["end"])
        if start.version != net.version or end.version != net.version:
            raise bad("Allocation pools must be of the subnet's IP version.")
        a_, b = int(start), int(end)
        words = f"{pool['start']}-{pool['end']}"
        if a_ > b:
            raise bad(f"The allocation pool {words} is not valid.")
        if a_ < first or b > last:
            raise bad(f"The allocation pool {words} spans beyond the subnet cidr {net}.")
        if any(a_ <= there[1] and there[0] <= b for there in seen):
            raise conflict("OverlappingAllocationPools", f"The allocation pool {words} overlaps with another.")
        if gateway is not None and a_ <= int(ipaddress.ip_address(gateway)) <= b:
            raise conflict("GatewayConflictWithAllocationPools", f"Gateway ip {gateway} conflicts with pool {words}.")
        seen.append((a_, b))


_COLUMNS = {"name": "name", "description": "description", "enable_dhcp": "enable_dhcp"}
_JSON = {"dns_nameservers": "dns", "host_routes": "routes", "service_types": "service_types"}


async def update(tx: Tx, change: Change) -> SubnetRow:
    row = await RESOURCE.own(tx, change.id, change.ask.creds)
    values = change.ask.values
    for name, column in _COLUMNS.items():
        if name in values:
            setattr(row, column, values[name])
    for name, column in _JSON.items():
        if name in values:
            setattr(row, column, encoded(values[name]))
    row.updated_at = change.ask.now
    if "gateway_ip" in values or values.get("allocation_pools") is not None:
        await _move(tx, row, change)
    if not await SUBNETS.update(tx, row):
        raise LayoutChanged
    row.revision += 1
    return row


async def _move(tx: Tx, row: SubnetRow, change: Change) -> None:
    """Another gateway or other pools: what ports of this network may get changes."""
    values, net = change.ask.values, addresses.network(row.cidr)
    if "gateway_ip" in values:
        row.gateway_ip = values["gateway_ip"]
        _check_gateway(net, row.gateway_ip)
    if values.get("allocation_pools") is not None:
        row.pools = encoded(values["allocation_pools"])
    _check_pools(net, decoded(row.pools), row.gateway_ip)
    network = await NETWORKS.find(tx, row.network_id)
    if network is None:
        raise LayoutChanged
    await _relayout(tx, network, decoded(network.subnets), change.ask.now)
    if row.gateway_ip is not None and "gateway_ip" in values:
        key = addresses.key(addresses.number(row.gateway_ip), net.version)
        if await tx.fetch_one(queries.ADDRESS_USED, {"network": row.network_id, "address": key}):
            raise conflict("GatewayIpInUse", f"Current gateway ip {row.gateway_ip} already in use by a port.")


async def delete(tx: Tx, change: Change) -> None:
    row = await RESOURCE.own(tx, change.id, change.ask.creds)
    network = await NETWORKS.find(tx, row.network_id)
    if network is None:
        raise LayoutChanged
    await _relayout(tx, network, [each for each in decoded(network.subnets) if each != row.id], change.ask.now)
    if await tx.fetch_one(queries.SUBNET_USED, {"subnet": row.id}) is not None:
        raise conflict(
            "SubnetInUse",
            f"Unable to complete operation on subnet {row.id}: ports have an IP allocation from this subnet.",
        )
    await SUBNETS.delete(tx, row.id)
    await queries.set_tags(tx, row.id, [])
    await queries.give_quota(tx, row.project_id, "subnet")


async def _relayout(tx: Tx, network: NetworkRow, subnets: list[str], now: int) -> None:
    params: dict[str, Value] = {
        "network": network.id, "layout": network.layout, "subnets": encoded(subnets), "now": now,
    }  # fmt: skip
    if not await tx.execute(queries.RELAYOUT, params):
        raise LayoutChanged


RESOURCE = Resource(
    "subnet", "subnets", SUBNETS,
    attributes={
        "network_id": a.Attribute(a.uuid, a.REQUIRED, put=False),
        "ip_version": a.Attribute(a.number(4, 6), a.REQUIRED, put=False),
        "cidr": a.Attribute(a.cidr, a.REQUIRED, put=False),
        "project_id": a.Attribute(a.text(), put=False),
        "name": a.Attribute(a.text(), ""),
        "description": a.Attribute(a.text(), ""),
        "gateway_ip": a.Attribute(a.optional(a.ip)),
        "enable_dhcp": a.Attribute(a.flag, 1),
        "ipv6_ra_mode": a.Attribute(a.choice(*_MODES), None, put=False),
        "ipv6_address_mode": a.Attribute(a.choice(*_MODES), None, put=False),
        "allocation_pools": a.Attribute(a.optional(_POOLS), None),
        "dns_nameservers": a.Attribute(a.several(a.ip, 5), []),
        "host_routes": a.Attribute(_ROUTES, []),
        "service_types": a.Attribute(a.several(a.text(), 10), []),
        "tags": a.Attribute(TAGS, [], put=False),
    },
    read_only=frozenset({"subnetpool_id"}),
    view=view,
    scope=(
        "(project_id = :me"
        " OR network_id IN (SELECT n.id FROM networks n WHERE n.shared = 1 OR n.project_id = :me))"
    ),
    columns={
        "id": "id", "name": "name", "description": "description", "project_id": "project_id",
        "network_id": "network_id", "cidr": "cidr", "gateway_ip": "gateway_ip", "ipv6_ra_mode": "ra_mode",
        "ipv6_address_mode": "address_mode",
    },
    flags={"enable_dhcp": "enable_dhcp"},
    special={
        "ip_version": lambda listing, values: listing.any_of(
            "ip_version", [a.number(0, 99)(v, "ip_version") for v in values]
        ),
    },
    create=create, update=update, delete=delete,
)  # fmt: skip
