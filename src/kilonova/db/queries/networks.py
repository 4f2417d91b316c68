"""Networks, subnets, ports and security groups: their rows, and the statements that are more than one row."""

from __future__ import annotations

import hashlib
from uuid import UUID, uuid5

from msgspec import Struct, field

from kilonova.db.database import Tx
from kilonova.db.queries.records import Records
from kilonova.db.statement import Statement, Value

_DEFAULT_GROUPS = UUID("6e0b8b9c-3f43-5d7e-9d4f-3a4c1d7a5b10")


class NetworkRow(Struct, kw_only=False):
    """JSON members are text; flags 0 and 1; times in microseconds UTC."""

    id: str
    project_id: str
    name: str = ""
    description: str = ""
    admin_state_up: int = 1
    shared: int = 0
    external: int = 0
    is_default: int = 0
    mtu: int = 1500
    subnets: str = "[]"
    tags: str = "[]"
    layout: int = 1
    ports: int = 0
    revision: int = 1
    created_at: int = 0
    updated_at: int = 0


class SubnetRow(Struct):
    id: str
    network_id: str
    project_id: str
    name: str
    description: str
    ip_version: int
    cidr: str
    gateway_ip: str | None
    enable_dhcp: int = 1
    ra_mode: str | None = None
    address_mode: str | None = None
    pools: str = "[]"
    dns: str = "[]"
    routes: str = "[]"
    service_types: str = "[]"
    tags: str = "[]"
    revision: int = 1
    created_at: int = 0
    updated_at: int = 0


class PortRow(Struct):
    id: str
    network_id: str
    project_id: str
    name: str = ""
    description: str = ""
    admin_state_up: int = 1
    status: str = "DOWN"
    mac: str = ""
    device_id: str = ""
    device_owner: str = ""
    host: str = ""
    vnic_type: str = "normal"
    profile: str = "{}"
    ips: str = "[]"
    groups: str = field(default="[]", name="group_ids")  # the column's name: `groups` is a word of SQL
    tags: str = "[]"
    made: int = 0
    revision: int = 1
    created_at: int = 0
    updated_at: int = 0


class GroupRow(Struct):
    id: str
    project_id: str
    name: str
    description: str = ""
    stateful: int = 1
    tags: str = "[]"
    revision: int = 1
    created_at: int = 0
    updated_at: int = 0


class RuleRow(Struct):
    id: str
    group_id: str
    project_id: str
    description: str
    direction: str
    ethertype: str
    protocol: str | None = None
    port_min: int | None = None
    port_max: int | None = None
    remote_group_id: str | None = None
    remote_prefix: str | None = None
    digest: str = ""
    revision: int = 1
    created_at: int = 0
    updated_at: int = 0


def _same(*names: str) -> dict[str, str]:
    return {name: name for name in names}


NETWORKS = Records("networks", NetworkRow, {
    **_same("id", "name", "project_id", "admin_state_up", "mtu", "created_at", "updated_at"), "tenant_id": "project_id",
})  # fmt: skip
SUBNETS = Records("subnets", SubnetRow, {
    **_same("id", "name", "network_id", "project_id", "cidr", "ip_version", "enable_dhcp", "created_at", "updated_at"),
    "tenant_id": "project_id", "gateway_ip": "COALESCE(gateway_ip, '')",
})  # fmt: skip
PORTS = Records("ports", PortRow, {
    **_same("id", "name", "network_id", "project_id", "admin_state_up", "status", "device_id", "device_owner",
            "created_at", "updated_at"),
    "tenant_id": "project_id", "mac_address": "mac",
})  # fmt: skip
GROUPS = Records("security_groups", GroupRow, {
    **_same("id", "name", "project_id", "created_at", "updated_at"), "tenant_id": "project_id",
})  # fmt: skip
RULES = Records("security_group_rules", RuleRow, {
    **_same("id", "project_id", "direction", "ethertype", "created_at", "updated_at"), "tenant_id": "project_id",
    "security_group_id": "group_id", "protocol": "COALESCE(protocol, '')",
})  # fmt: skip

# The key's order: networks by sharing and project, at most a few.
USABLE = Statement(
    f"SELECT {NETWORKS.columns} FROM networks WHERE (project_id = :me OR shared = 1) ORDER BY id LIMIT 1000"
)
SUBNETS_OF = Statement(
    f"SELECT {SUBNETS.columns} FROM subnets WHERE network_id = :network ORDER BY created_at, id"
)
PLAN = Statement(
    """SELECT n.name, n.mtu, n.layout, s.id, s.ip_version, s.cidr, s.gateway_ip, s.pools, s.address_mode
       FROM networks n LEFT JOIN subnets s ON s.network_id = n.id WHERE n.id = :network ORDER BY s.created_at, s.id"""
)
PORTS_OF = Statement(f"SELECT {PORTS.columns} FROM ports WHERE device_id = :device ORDER BY created_at, id")
HELD = Statement(
    """SELECT id, device_id FROM ports WHERE id > :after AND device_id <> ''
       AND device_owner LIKE 'compute:%' ESCAPE '!' ORDER BY id LIMIT :limit"""
)
JOIN = Statement(
    "UPDATE networks SET ports = ports + :n WHERE id = :network AND layout = :layout"
)
LEAVE = Statement("UPDATE networks SET ports = ports - :n WHERE id = :network")
RELAYOUT = Statement(
    """UPDATE networks SET layout = layout + 1, revision = revision + 1, subnets = :subnets, updated_at = :now
       WHERE id = :network AND layout = :layout"""
)
DROP_NETWORK = Statement("DELETE FROM networks WHERE id = :network AND ports = 0")
DROP_SUBNETS = Statement("DELETE FROM subnets WHERE network_id = :network")

TAKE_ADDRESS = Statement(
    "INSERT INTO port_addresses (network_id, address, subnet_id, port_id) VALUES (:network, :address, :subnet, :port)"
)
FREE_ADDRESSES = Statement("DELETE FROM port_addresses WHERE port_id = :port")
FREE_ADDRESS = Statement(
    "DELETE FROM port_addresses WHERE network_id = :network AND address = :address AND port_id = :port"
)
USED_ADDRESSES = Statement(
    """SELECT address FROM port_addresses WHERE network_id = :network AND address >= :first AND address <= :last
       ORDER BY address LIMIT :limit"""
)
ADDRESS_USED = Statement("SELECT port_id FROM port_addresses WHERE network_id = :network AND address = :address")
SUBNET_USED = Statement("SELECT port_id FROM port_addresses WHERE subnet_id = :subnet LIMIT 1")

JOIN_GROUP = Statement("INSERT INTO port_groups (group_id, port_id) VALUES (:group, :port)")
LEAVE_GROUPS = Statement("DELETE FROM port_groups WHERE port_id = :port")
GROUP_USED = Statement("SELECT port_id FROM port_groups WHERE group_id = :group LIMIT 1")
GROUPS_NAMED = Statement("SELECT id FROM security_groups WHERE project_id = :project AND (id = :name OR name = :name)")
RULES_OF = Statement(
    f"SELECT {RULES.columns} FROM security_group_rules WHERE group_id = :group ORDER BY created_at, id"
)
DROP_RULES = Statement("DELETE FROM security_group_rules WHERE group_id = :group OR remote_group_id = :group")

_TAG = Statement("INSERT INTO network_tags (fact, resource_id) VALUES (:fact, :id)")
_UNTAG = Statement("DELETE FROM network_tags WHERE resource_id = :id")

_TAKE = Statement(
    """UPDATE network_usages SET used = used + :n
       WHERE project_id = :project AND resource = :resource AND used + :n <= :most"""
)
_MAKE = Statement("INSERT INTO network_usages (project_id, resource, used) VALUES (:project, :resource, 0)")
_GIVE = Statement("UPDATE network_usages SET used = used - :n WHERE project_id = :project AND resource = :resource")
USAGES = Statement("SELECT resource, used FROM network_usages WHERE project_id = :project")


def default_group_id(project_id: str) -> str:
    """The id of a project's default security group: always the same, so that making it twice makes one."""
    return str(uuid5(_DEFAULT_GROUPS, project_id))


def tag_fact(tag: str) -> str:
    return hashlib.sha256(tag.encode()).hexdigest()


async def set_tags(tx: Tx, resource_id: str, tags: list[str], fresh: bool = False) -> None:
    """Make lists find the resource by `tags` only."""
    if not fresh:
        await tx.execute(_UNTAG, {"id": resource_id})
    if tags:
        await tx.execute_many(_TAG, [{"fact": fact, "id": resource_id} for fact in sorted(map(tag_fact, set(tags)))])


async def take_quota(tx: Tx, project_id: str, resource: str, n: int, most: int) -> bool:
    """Count `n` more; False when that would pass `most` (negative: unlimited). Last in a transaction."""
    params: dict[str, Value] = {
        "project": project_id, "resource": resource, "n": n, "most": most if most >= 0 else 1 << 62,
    }  # fmt: skip
    if await tx.execute(_TAKE, params):
        return True
    await tx.insert_if_absent(_MAKE, {"project": project_id, "resource": resource})
    return await tx.execute(_TAKE, params) == 1


async def give_quota(tx: Tx, project_id: str, resource: str, n: int = 1) -> None:
    """Count `n` less."""
    await tx.execute(_GIVE, {"project": project_id, "resource": resource, "n": n})
