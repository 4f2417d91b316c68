"""Ports on the wire: records with addresses and security groups."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from kilonova.db.database import Tx
from kilonova.db.queries import networks as queries
from kilonova.db.queries.listing import Listing
from kilonova.db.queries.networks import PORTS, NetworkRow, PortRow
from kilonova.network import addresses, allocation
from kilonova.network import attributes as a
from kilonova.network.addresses import decoded, encoded
from kilonova.network.allocation import LayoutChanged, Plan, Subnet
from kilonova.network.binding import drop, insert
from kilonova.network.default_group import ensure_default_group
from kilonova.network.errors import bad, conflict, denied, invalid, missing, over_quota
from kilonova.network.networks import RESOURCE as NETWORK
from kilonova.network.resource import TAGS, Ask, Change, Resource, base_view, raw

_VNICS = ("normal", "direct", "macvtap", "direct-physical", "baremetal", "virtio-forwarder", "vdpa")
_FIXED_IPS = a.several(a.members(free={"subnet_id": a.uuid, "ip_address": a.ip}), 20)


def view(row: PortRow, admin: bool) -> dict[str, Any]:
    shown = {
        **base_view(row),
        "name": row.name,
        "network_id": row.network_id,
        "mac_address": row.mac,
        "admin_state_up": bool(row.admin_state_up),
        "status": row.status,
        "device_id": row.device_id,
        "device_owner": row.device_owner,
        "fixed_ips": raw(row.ips),
        "security_groups": raw(row.groups),
        "binding:vnic_type": row.vnic_type,
        "tags": raw(row.tags),
    }
    if admin:
        shown |= {
            "binding:host_id": row.host,
            "binding:vif_type": "other" if row.host else "unbound",
            "binding:vif_details": {},
            "binding:profile": raw(row.profile),
        }
    return shown


async def create(tx: Tx, ask: Ask) -> PortRow:
    values = ask.values
    network = await NETWORK.find(tx, values["network_id"], ask.creds)
    if network.external and not network.shared and not _rules_over(network, ask):
        raise denied("Creating a port on an external network")
    found = await allocation.plan(tx, network.id)
    if found is None:
        raise LayoutChanged
    _check_rights(ask, network)
    row = PortRow(
        str(uuid4()), network.id, ask.project, mac=values.get("mac_address") or addresses.new_mac(),
        tags=encoded(sorted(values["tags"])), created_at=ask.now, updated_at=ask.now,
    )  # fmt: skip
    _assign(row, ask)
    row.ips = encoded(await _addresses(tx, found, row, values.get("fixed_ips"), ask, []))
    groups = await _groups(tx, values.get("security_groups"), row, ask)
    row.groups = encoded(groups)
    if values.get("mac_address"):
        if not await PORTS.insert(tx, row):
            raise conflict("MacAddressInUse", f"The mac address {row.mac} is in use on network {network.id}.")
    else:
        await insert(tx, row, own_mac=not any(s.address_mode in addresses.SLAAC for s in found.subnets))
    await _join_groups(tx, row, groups)
    await queries.set_tags(tx, row.id, values["tags"], fresh=True)
    await allocation.join(tx, found)
    if not await queries.take_quota(tx, row.project_id, "port", 1, ask.limits.port):
        raise over_quota("port")
    return row


def _rules_over(network: NetworkRow, ask: Ask) -> bool:
    return ask.creds.is_admin or network.project_id == ask.creds.project_id


def _check_rights(ask: Ask, network: NetworkRow) -> None:
    """What only an admin or the network's owner sets. Looser than Neutron: anybody who may use a network may choose
    an address of it (never the gateway's).
    """
    if _rules_over(network, ask):
        return
    if ask.values.get("mac_address"):
        raise denied("Setting mac_address")
    if ask.values.get("device_owner", "").startswith("network:"):
        raise denied("Setting device_owner")


_COLUMNS = {
    "name": "name", "description": "description", "admin_state_up": "admin_state_up", "device_id": "device_id",
    "device_owner": "device_owner", "binding:host_id": "host", "binding:vnic_type": "vnic_type",
}  # fmt: skip


def _assign(row: PortRow, ask: Ask) -> None:
    for name, column in _COLUMNS.items():
        if name in ask.values:
            setattr(row, column, ask.values[name])
    if ask.values.get("binding:profile") is not None:
        row.profile = encoded(ask.values["binding:profile"])
    row.status = "ACTIVE" if row.host and row.device_id else "DOWN"


async def _addresses(
    tx: Tx, found: Plan, row: PortRow, wanted: list[dict[str, str]] | None, ask: Ask, have: list[dict[str, str]]
) -> list[dict[str, str]]:
    """What the port gets, as `fixed_ips` shows it; `have` are kept where they are wanted again, the rest is freed."""
    if wanted is None:
        got = await allocation.allocate_any(tx, found, row.id, row.mac, ask.hints)
        return [{"subnet_id": subnet, "ip_address": ip} for subnet, ip in got]
    left = list(have)
    plan: list[tuple[dict[str, str], dict[str, str] | None]] = []
    for each in wanted:
        if not each:
            raise invalid("an item of fixed_ips names a subnet_id or an ip_address")
        kept = next((old for old in left if all(old[name] == value for name, value in each.items())), None)
        if kept is not None:
            left.remove(kept)
        plan.append((each, kept))
    for old in left:
        version = 6 if ":" in old["ip_address"] else 4
        key = addresses.key(addresses.number(old["ip_address"]), version)
        await tx.execute(queries.FREE_ADDRESS, {"network": found.network_id, "address": key, "port": row.id})
    return [kept or await _one(tx, found, row, each, ask) for each, kept in plan]


async def _one(tx: Tx, found: Plan, row: PortRow, each: dict[str, str], ask: Ask) -> dict[str, str]:
    subnet = _subnet(found, each["subnet_id"]) if "subnet_id" in each else None
    if "ip_address" in each:
        fitting = allocation.subnet_for(found, each["ip_address"])
        if subnet is not None and fitting.id != subnet.id:
            raise bad(f"IP address {each['ip_address']} is not a valid IP for the specified subnet.")
        ip = await allocation.take(tx, found.network_id, fitting, row.id, each["ip_address"])
        return {"subnet_id": fitting.id, "ip_address": ip}
    assert subnet is not None
    if subnet.address_mode in addresses.SLAAC:
        ip = await allocation.allocate_from_mac(tx, found.network_id, subnet, row.id, row.mac)
    else:
        ip = await allocation.allocate(tx, found.network_id, subnet, row.id, ask.hints)
    return {"subnet_id": subnet.id, "ip_address": ip}


def _subnet(found: Plan, subnet_id: str) -> Subnet:
    for subnet in found.subnets:
        if subnet.id == subnet_id:
            return subnet
    raise bad(f"fixed_ips names subnet {subnet_id}, which is not one of network {found.network_id}.")


async def _groups(tx: Tx, wanted: list[str] | None, row: PortRow, ask: Ask) -> list[str]:
    if wanted is None:
        if row.device_owner.startswith("network:") or not row.project_id:
            return []
        return [await ensure_default_group(tx, row.project_id, ask.now)]
    for group in wanted:
        found = await tx.fetch_one(queries.GROUPS.get, {"id": group})
        if found is None or not (ask.creds.is_admin or found[1] == ask.creds.project_id):
            raise missing("security_group", group)
    return wanted


async def _join_groups(tx: Tx, row: PortRow, groups: list[str]) -> None:
    for group in groups:
        await tx.execute(queries.JOIN_GROUP, {"group": group, "port": row.id})


async def update(tx: Tx, change: Change) -> PortRow:
    ask = change.ask
    row = await RESOURCE.own(tx, change.id, ask.creds)
    network = await NETWORK.find(tx, row.network_id, ask.creds)
    _check_rights(ask, network)
    _assign(row, ask)
    row.updated_at = ask.now
    if ask.values.get("mac_address"):
        row.mac = ask.values["mac_address"]
        there = queries.PORTS.page()
        there.where("network_id = :network AND mac = :mac AND id <> :id", network=network.id, mac=row.mac, id=row.id)
        if await tx.fetch_one(there.statement(1), there.params) is not None:
            raise conflict("MacAddressInUse", f"The mac address {row.mac} is in use on network {network.id}.")
    moved = ask.values.get("fixed_ips") is not None
    found = await allocation.plan(tx, network.id) if moved else None
    if found is not None:
        row.ips = encoded(await _addresses(tx, found, row, ask.values["fixed_ips"], ask, decoded(row.ips)))
    if "security_groups" in ask.values:
        groups = await _groups(tx, ask.values["security_groups"] or [], row, ask)
        row.groups = encoded(groups)
        await tx.execute(queries.LEAVE_GROUPS, {"port": row.id})
        await _join_groups(tx, row, groups)
    if not await PORTS.update(tx, row):
        raise LayoutChanged
    if found is not None:
        await allocation.join(tx, found, 0)
    row.revision += 1
    return row


async def delete(tx: Tx, change: Change) -> None:
    row = await RESOURCE.own(tx, change.id, change.ask.creds)
    if row.device_owner.startswith("network:") and row.device_id:
        raise conflict("ServicePortInUse", f"Port {row.id} cannot be deleted directly via the port API.")
    await drop(tx, row)
    await tx.execute(queries.LEAVE, {"network": row.network_id, "n": 1})
    if not row.made:
        await queries.give_quota(tx, row.project_id, "port")


def _by_fixed_ip(listing: Listing, values: list[str]) -> None:
    """``fixed_ips=ip_address=10.0.0.3`` and ``fixed_ips=subnet_id=...``; one of each name's values, all names."""
    wanted: dict[str, list[str]] = {}
    for value in values:
        name, _, rest = value.partition("=")
        if name not in ("ip_address", "subnet_id") or not rest:
            raise bad("fixed_ips is filtered by ip_address=... or subnet_id=...")
        wanted.setdefault(name, []).append(rest)
    for name, rests in wanted.items():
        column = "address" if name == "ip_address" else "subnet_id"
        keys = [_key(rest) for rest in rests] if name == "ip_address" else rests
        # A condition of its own for each value: short lists, and parameters named once.
        parts = []
        for key in keys[:50]:
            param = f"x{len(listing.params)}"
            listing.params[param] = key
            parts.append(
                f"EXISTS (SELECT 1 FROM port_addresses p WHERE p.port_id = ports.id AND p.{column} = :{param})"  # noqa: S608 - constants
            )
        listing.where("(" + " OR ".join(parts) + ")")


def _key(address: str) -> str:
    try:
        return addresses.key(addresses.number(address), 6 if ":" in address else 4)
    except ValueError:
        raise invalid(f"'{address[:50]}' is not a valid IP address in fixed_ips") from None


def _by_group(listing: Listing, values: list[str]) -> None:
    parts = []
    for value in values[:50]:
        param = f"x{len(listing.params)}"
        listing.params[param] = value.lower()
        parts.append(f"EXISTS (SELECT 1 FROM port_groups g WHERE g.port_id = ports.id AND g.group_id = :{param})")  # noqa: S608 - constants
    listing.where("(" + " OR ".join(parts) + ")")


RESOURCE = Resource(
    "port", "ports", PORTS,
    attributes={
        "network_id": a.Attribute(a.uuid, a.REQUIRED, put=False),
        "project_id": a.Attribute(a.text(), put=False),
        "name": a.Attribute(a.text(), ""),
        "description": a.Attribute(a.text(), ""),
        "admin_state_up": a.Attribute(a.flag, 1),
        "mac_address": a.Attribute(a.mac),
        "fixed_ips": a.Attribute(a.optional(_FIXED_IPS), None),
        "device_id": a.Attribute(a.text(), ""),
        "device_owner": a.Attribute(a.text(), ""),
        "security_groups": a.Attribute(a.optional(a.several(a.uuid, 50)), None),
        "tags": a.Attribute(TAGS, [], put=False),
        "binding:host_id": a.Attribute(a.text(), "", admin=True),
        "binding:vnic_type": a.Attribute(a.choice(*_VNICS), "normal"),
        "binding:profile": a.Attribute(a.optional(a.document), None, admin=True),
    },
    read_only=frozenset({"binding:vif_type", "binding:vif_details"}),
    view=view,
    scope="(project_id = :me OR network_id IN (SELECT n.id FROM networks n WHERE n.project_id = :me))",
    columns={
        "id": "id", "name": "name", "description": "description", "project_id": "project_id",
        "network_id": "network_id", "device_id": "device_id", "device_owner": "device_owner", "status": "status",
        "mac_address": "mac", "binding:host_id": "host", "binding:vnic_type": "vnic_type",
    },
    flags={"admin_state_up": "admin_state_up"},
    special={"fixed_ips": _by_fixed_ip, "security_groups": _by_group},
    create=create, update=update, delete=delete,
)  # fmt: skip
