"""Addresses for ports, inside a transaction: each is a row whose key only one port can have.

Addresses are given in order, wrapping round, so that one that was freed is not given again at once. Where the
next one is, a process only remembers as a hint; a taken one costs a look at what is free.
"""

from __future__ import annotations

from msgspec import Struct

from kilonova.db.database import Tx
from kilonova.db.queries import networks as queries
from kilonova.db.statement import Value
from kilonova.network import addresses
from kilonova.network.port import NetworkConflict, NetworkError

_LOOK = 512


class Subnet(Struct, frozen=True):
    """What of a subnet matters to ports, in the order of `queries.PLAN`."""

    id: str
    version: int
    cidr: str
    gateway: str | None
    pools: str
    address_mode: str | None


class Plan(Struct, frozen=True):
    """A network as ports see it."""

    network_id: str
    name: str
    mtu: int
    layout: int
    subnets: tuple[Subnet, ...]


class NoAddress(NetworkConflict):
    """All addresses of the pools are taken."""


class AddressTaken(NetworkConflict):
    """Another port has the address."""


class LayoutChanged(Exception):
    """The network's subnets changed since its plan was read (or it is gone): start over."""


Hints = dict[str, int]
"""Subnet id -> the number after the last address given. Shared by transactions, never trusted."""


async def plan(tx: Tx, network_id: str) -> Plan | None:
    """Read a network's plan; None: there is no such network."""
    rows = await tx.fetch(queries.PLAN, {"network": network_id})
    if not rows:
        return None
    name, mtu, layout = rows[0][:3]
    return Plan(network_id, name, mtu, layout, tuple(Subnet(*row[3:]) for row in rows if row[3] is not None))


async def join(tx: Tx, found: Plan, ports: int = 1) -> None:
    """Count new ports (or 0: new addresses) in; at the end of the transaction. Raises LayoutChanged."""
    params: dict[str, Value] = {"network": found.network_id, "layout": found.layout, "n": ports}
    if not await tx.execute(queries.JOIN, params):
        raise LayoutChanged


async def allocate_any(tx: Tx, found: Plan, port: str, mac: str, hints: Hints) -> list[tuple[str, str]]:
    """One IPv4 and one IPv6 address where there are such subnets, and one in every self-configured subnet.

    Returns (subnet id, address) pairs. Raises NoAddress.
    """
    got: list[tuple[str, str]] = []
    for version in (4, 6):
        chosen = [s for s in found.subnets if s.version == version and s.address_mode not in addresses.SLAAC]
        for n, subnet in enumerate(chosen):
            try:
                got.append((subnet.id, await allocate(tx, found.network_id, subnet, port, hints)))
                break
            except NoAddress:
                if n + 1 == len(chosen):
                    raise
    for subnet in found.subnets:
        if subnet.address_mode in addresses.SLAAC:
            got.append((subnet.id, await allocate_from_mac(tx, found.network_id, subnet, port, mac)))
    return got


async def allocate_from_mac(tx: Tx, network_id: str, subnet: Subnet, port: str, mac: str) -> str:
    """The address that follows from a MAC. Raises AddressTaken."""
    return await take(tx, network_id, subnet, port, addresses.eui64(addresses.network(subnet.cidr), mac))


async def allocate(tx: Tx, network_id: str, subnet: Subnet, port: str, hints: Hints) -> str:
    """The next free address of a subnet's pools. Raises NoAddress."""
    ranges = addresses.ranges(subnet.pools)
    start = hints.get(subnet.id, 0)
    turns = [(max(a, start), b) for a, b in ranges if b >= start]
    turns += [(a, min(b, start - 1)) for a, b in ranges if a < start]
    for first, last in turns:
        value = first
        # Most often the very first is free: try it before looking.
        if first <= last and await _insert(tx, network_id, subnet, port, first):
            hints[subnet.id] = first + 1
            return addresses.text(first, subnet.version)
        while value <= last:
            value = await _gap(tx, network_id, subnet.version, value, last)
            if value <= last and await _insert(tx, network_id, subnet, port, value):
                hints[subnet.id] = value + 1
                return addresses.text(value, subnet.version)
    raise NoAddress("No more IP addresses available on network " + network_id + ".")


async def take(tx: Tx, network_id: str, subnet: Subnet, port: str, address: str) -> str:
    """A certain address, in the subnet. Raises AddressTaken."""
    value = addresses.number(address)
    if not await _insert(tx, network_id, subnet, port, value):
        raise AddressTaken(f"IP address {address} is already allocated in subnet {subnet.id}.")
    return addresses.text(value, subnet.version)


def subnet_for(found: Plan, address: str) -> Subnet:
    """The subnet of a network that an address may be taken from. Raises NetworkError."""
    try:
        value = addresses.number(address)
    except ValueError:
        raise NetworkError(f"{address[:64]!r} is not an IP address.") from None
    version = 6 if ":" in address else 4
    for subnet in found.subnets:
        if subnet.version != version:
            continue
        first, last = addresses.usable(addresses.network(subnet.cidr))
        if first <= value <= last:
            if subnet.gateway is not None and value == addresses.number(subnet.gateway):
                raise NetworkConflict(f"IP address {address} is the gateway of subnet {subnet.id}.")
            return subnet
    raise NetworkError(f"IP address {address} is not a valid IP of any subnet of network {found.network_id}.")


async def _insert(tx: Tx, network_id: str, subnet: Subnet, port: str, value: int) -> bool:
    return await tx.insert_if_absent(
        queries.TAKE_ADDRESS,
        {
            "network": network_id, "address": addresses.key(value, subnet.version), "subnet": subnet.id, "port": port,
        },
    )  # fmt: skip


async def _gap(tx: Tx, network_id: str, version: int, first: int, last: int) -> int:
    """The first number from `first` on that no row has; `last` + 1 when there is none."""
    while first <= last:
        params: dict[str, Value] = {
            "network": network_id, "first": addresses.key(first, version), "last": addresses.key(last, version),
            "limit": _LOOK,
        }  # fmt: skip
        rows = await tx.fetch(queries.USED_ADDRESSES, params)
        for (used,) in rows:
            if int(used, 16) != first:
                return first
            first += 1
        if len(rows) < _LOOK:
            return first
    return first
