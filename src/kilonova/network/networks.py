"""Networks on the wire."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from kilonova.db.database import Tx
from kilonova.db.queries import networks as queries
from kilonova.db.queries.networks import NETWORKS, NetworkRow
from kilonova.network import attributes as a
from kilonova.network.addresses import encoded
from kilonova.network.errors import conflict, over_quota
from kilonova.network.resource import TAGS, Ask, Change, Resource, base_view, raw

SCOPE = "(project_id = :me OR shared = 1 OR external = 1)"


def view(row: NetworkRow, admin: bool) -> dict[str, Any]:
    return {
        **base_view(row),
        "name": row.name,
        "status": "ACTIVE",
        "admin_state_up": bool(row.admin_state_up),
        "shared": bool(row.shared),
        "router:external": bool(row.external),
        "is_default": bool(row.is_default),
        "mtu": row.mtu,
        "subnets": raw(row.subnets),
        "tags": raw(row.tags),
        "availability_zone_hints": [],
        "availability_zones": [],
        "ipv4_address_scope": None,
        "ipv6_address_scope": None,
    }


_COLUMNS = {
    "name": "name", "description": "description", "admin_state_up": "admin_state_up", "shared": "shared",
    "router:external": "external", "is_default": "is_default", "mtu": "mtu",
}  # fmt: skip


async def create(tx: Tx, ask: Ask) -> NetworkRow:
    values = ask.values
    row = NetworkRow(
        str(uuid4()), ask.project, tags=encoded(sorted(values["tags"])), created_at=ask.now, updated_at=ask.now
    )
    for name, column in _COLUMNS.items():
        setattr(row, column, values[name])
    await NETWORKS.insert(tx, row)
    await queries.set_tags(tx, row.id, values["tags"], fresh=True)
    if not await queries.take_quota(tx, row.project_id, "network", 1, ask.limits.network):
        raise over_quota("network")
    return row


async def update(tx: Tx, change: Change) -> NetworkRow:
    row = await RESOURCE.own(tx, change.id, change.ask.creds)
    for name, column in _COLUMNS.items():
        if name in change.ask.values:
            setattr(row, column, change.ask.values[name])
    row.updated_at = change.ask.now
    if not await NETWORKS.update(tx, row):
        raise conflict("StaleDataError", f"Network {row.id} was changed meanwhile; try again.")
    row.revision += 1
    return row


async def delete(tx: Tx, change: Change) -> None:
    row = await RESOURCE.own(tx, change.id, change.ask.creds)
    if not await tx.execute(queries.DROP_NETWORK, {"network": row.id}):
        raise conflict(
            "NetworkInUse",
            f"Unable to complete operation on network {row.id}. There are ports still in use on the network.",
        )
    subnets = await tx.fetch(queries.SUBNETS_OF, {"network": row.id})
    await tx.execute(queries.DROP_SUBNETS, {"network": row.id})
    for subnet in subnets:
        await queries.set_tags(tx, subnet[0], [])
        await queries.give_quota(tx, subnet[2], "subnet")
    await queries.set_tags(tx, row.id, [])
    await queries.give_quota(tx, row.project_id, "network")


RESOURCE = Resource(
    "network", "networks", NETWORKS,
    attributes={
        "name": a.Attribute(a.text(), ""),
        "description": a.Attribute(a.text(), ""),
        "project_id": a.Attribute(a.text(), put=False),
        "admin_state_up": a.Attribute(a.flag, 1),
        "shared": a.Attribute(a.flag, 0, admin=True),
        "router:external": a.Attribute(a.flag, 0, admin=True),
        "is_default": a.Attribute(a.flag, 0, admin=True),
        "mtu": a.Attribute(a.number(68, 65535), 1500),
        "tags": a.Attribute(TAGS, [], put=False),
    },
    read_only=frozenset({"subnets", "availability_zones", "ipv4_address_scope", "ipv6_address_scope"}),
    view=view,
    scope=SCOPE,
    columns={"id": "id", "name": "name", "description": "description", "project_id": "project_id"},
    flags={
        "admin_state_up": "admin_state_up", "shared": "shared", "router:external": "external",
        "is_default": "is_default",
    },
    special={
        "status": lambda listing, values: listing.where("1 = 1" if "ACTIVE" in values else "1 = 0"),
        "mtu": lambda listing, values: listing.any_of("mtu", [a.number(0, 65535)(v, "mtu") for v in values]),
    },
    create=create, update=update, delete=delete,
)  # fmt: skip
