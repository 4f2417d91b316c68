"""Security groups and their rules on the wire. Records: a guest's user-mode NIC lets nothing in and all out."""

from __future__ import annotations

import ipaddress
from typing import Any
from uuid import uuid4

from kilonova.db.database import Database, Tx
from kilonova.db.queries import networks as queries
from kilonova.db.queries.listing import Listing
from kilonova.db.queries.networks import GROUPS, RULES, GroupRow, RuleRow, default_group_id
from kilonova.network import attributes as a
from kilonova.network.addresses import encoded
from kilonova.network.default_group import add_rules, rule_digest
from kilonova.network.errors import bad, conflict, over_quota
from kilonova.network.resource import TAGS, Ask, Change, Filter, Resource, base_view, raw

_NAMES = (
    "ah", "dccp", "egp", "esp", "gre", "hopopt", "icmp", "icmpv6", "igmp", "ip", "ipip", "ipv6-encap", "ipv6-frag",
    "ipv6-icmp", "ipv6-nonxt", "ipv6-opts", "ipv6-route", "ospf", "pgm", "rsvp", "sctp", "tcp", "udp", "udplite",
    "vrrp",
)  # fmt: skip
_WITH_PORTS = {"tcp", "udp", "sctp", "dccp", "udplite", "6", "17", "33", "132", "136"}
_ICMP = {"icmp", "icmpv6", "ipv6-icmp", "1", "58"}


def group_view(row: GroupRow, admin: bool) -> dict[str, Any]:
    return {
        **base_view(row),
        "name": row.name,
        "stateful": bool(row.stateful),
        "shared": False,
        "tags": raw(row.tags),
        "security_group_rules": [],
    }


def rule_view(row: RuleRow, admin: bool) -> dict[str, Any]:
    return {
        **base_view(row),
        "security_group_id": row.group_id,
        "direction": row.direction,
        "ethertype": row.ethertype,
        "protocol": row.protocol,
        "port_range_min": row.port_min,
        "port_range_max": row.port_max,
        "remote_group_id": row.remote_group_id,
        "remote_ip_prefix": row.remote_prefix,
        "remote_address_group_id": None,
        "normalized_cidr": row.remote_prefix,
        "belongs_to_default_sg": row.group_id == default_group_id(row.project_id),
    }


async def with_rules(database: Database, rows: list[GroupRow]) -> dict[str, dict[str, Any]]:
    """The rules of groups, for their views."""
    found: dict[str, dict[str, Any]] = {row.id: {"security_group_rules": []} for row in rows}
    for at in range(0, len(rows), 500):
        listing = RULES.page()
        listing.any_of("group_id", [row.id for row in rows[at : at + 500]])
        listing.sort([("created_at", False)])
        for rule in await database.scan(listing.statement(), listing.params, RULES.rows):
            found[rule.group_id]["security_group_rules"].append(rule_view(rule, False))
    return found


async def create(tx: Tx, ask: Ask) -> GroupRow:
    values = ask.values
    if values["name"].lower() == "default":
        raise conflict("SecurityGroupDefaultAlreadyExists", "Default security group already exists.")
    row = GroupRow(
        str(uuid4()), ask.project, values["name"], values["description"], values["stateful"],
        encoded(sorted(values["tags"])), created_at=ask.now, updated_at=ask.now,
    )  # fmt: skip
    await GROUPS.insert(tx, row)
    await add_rules(tx, row, remote=False)
    await queries.set_tags(tx, row.id, values["tags"], fresh=True)
    if not await queries.take_quota(tx, row.project_id, "security_group", 1, ask.limits.security_group):
        raise over_quota("security_group")
    return row


async def update(tx: Tx, change: Change) -> GroupRow:
    row = await GROUP.own(tx, change.id, change.ask.creds)
    values = change.ask.values
    if "name" in values and values["name"] != row.name:
        if row.id == default_group_id(row.project_id):
            raise conflict("SecurityGroupCannotUpdateDefault", "Updating default security group not allowed.")
        row.name = values["name"]
    row.description = values.get("description", row.description)
    row.stateful = values.get("stateful", row.stateful)
    row.updated_at = change.ask.now
    if not await GROUPS.update(tx, row):
        raise conflict("StaleDataError", f"Security group {row.id} was changed meanwhile; try again.")
    row.revision += 1
    return row


async def delete(tx: Tx, change: Change) -> None:
    row = await GROUP.own(tx, change.id, change.ask.creds)
    if await tx.fetch_one(queries.GROUP_USED, {"group": row.id}) is not None:
        raise conflict("SecurityGroupInUse", f"Security Group {row.id} in use.")
    default = row.id == default_group_id(row.project_id)
    if default and not change.ask.creds.is_admin:
        raise conflict("SecurityGroupCannotRemoveDefault", "Insufficient rights for removing default security group.")
    await tx.execute(queries.DROP_RULES, {"group": row.id})
    await GROUPS.delete(tx, row.id)
    await queries.set_tags(tx, row.id, [])
    if not default:
        await queries.give_quota(tx, row.project_id, "security_group")


async def create_rule(tx: Tx, ask: Ask) -> RuleRow:
    values = ask.values
    group = await GROUP.own(tx, values["security_group_id"], ask.creds)
    if values["remote_group_id"] is not None:
        await GROUP.find(tx, values["remote_group_id"], ask.creds)
    row = RuleRow(
        str(uuid4()), group.id, group.project_id, values["description"], values["direction"], values["ethertype"],
        values["protocol"], values["port_range_min"], values["port_range_max"], values["remote_group_id"],
        values["remote_ip_prefix"], created_at=ask.now, updated_at=ask.now,
    )  # fmt: skip
    _check_rule(row)
    row.digest = rule_digest(row)
    if not await RULES.insert(tx, row):
        raise conflict("SecurityGroupRuleExists", "Security group rule already exists.")
    if not await queries.take_quota(tx, row.project_id, "security_group_rule", 1, ask.limits.security_group_rule):
        raise over_quota("security_group_rule")
    return row


def _check_rule(row: RuleRow) -> None:
    if row.remote_group_id is not None and row.remote_prefix is not None:
        raise bad("Only remote_ip_prefix or remote_group_id may be provided.")
    if row.remote_prefix is not None:
        version = "IPv6" if ":" in row.remote_prefix else "IPv4"
        if version != row.ethertype:
            raise bad(f"Conflicting value ethertype {row.ethertype} for CIDR {row.remote_prefix}")
    low, high = row.port_min, row.port_max
    if low is None and high is None:
        return
    if row.protocol in _ICMP:
        if any(value is not None and value > 255 for value in (low, high)):
            raise bad("ICMP types and codes are 0 to 255.")
        if low is None:
            raise bad("ICMP code (port-range-max) is provided but ICMP type (port-range-min) is missing.")
        return
    if row.protocol not in _WITH_PORTS:
        raise bad("Must also specify protocol if port range is given.")
    if low is None or high is None or low > high:
        raise bad("For TCP/UDP protocols, port_range_min must be <= port_range_max")
    if low == 0:
        raise bad("Invalid port range: ports are 1 to 65535.")


async def delete_rule(tx: Tx, change: Change) -> None:
    row = await RULE.own(tx, change.id, change.ask.creds)
    await RULES.delete(tx, row.id)
    await queries.give_quota(tx, row.project_id, "security_group_rule")


def _protocol(value: Any, name: str) -> str | None:
    if value is None or value == "any" or value == "":
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if isinstance(value, str):
        folded = value.lower()
        if folded in _NAMES or (folded.isascii() and folded.isdigit() and len(folded) <= 3 and int(folded) <= 255):
            return folded
    raise bad(f"Security group rule protocol {str(value)[:50]} not supported.")


def _prefix(value: Any, name: str) -> str:
    if isinstance(value, str) and "/" not in value:
        try:
            value = f"{ipaddress.ip_address(value)}/{ipaddress.ip_address(value).max_prefixlen}"
        except ValueError:
            pass
    return str(a.cidr(value, name))


GROUP = Resource(
    "security_group", "security-groups", GROUPS,
    attributes={
        "name": a.Attribute(a.text(), ""),
        "description": a.Attribute(a.text(), ""),
        "stateful": a.Attribute(a.flag, 1),
        "project_id": a.Attribute(a.text(), put=False),
        "tags": a.Attribute(TAGS, [], put=False),
    },
    read_only=frozenset({"security_group_rules", "shared"}),
    view=group_view,
    scope="project_id = :me",
    columns={"id": "id", "name": "name", "description": "description", "project_id": "project_id"},
    flags={"stateful": "stateful"},
    special={"shared": lambda listing, values: listing.where("1 = 0" if a.flag(values[0], "shared") else "1 = 1")},
    create=create, update=update, delete=delete, decorate=with_rules,
)  # fmt: skip



def _by_port(column: str) -> Filter:
    def apply(listing: Listing, values: list[str]) -> None:
        listing.any_of(column, [a.number(0, 65535)(value, column) for value in values])

    return apply


_PORT = a.number(0, 65535, optional=True)
RULE = Resource(
    "security_group_rule", "security-group-rules", RULES,
    attributes={
        "security_group_id": a.Attribute(a.uuid, a.REQUIRED),
        "direction": a.Attribute(a.choice("ingress", "egress"), a.REQUIRED),
        "ethertype": a.Attribute(a.choice("IPv4", "IPv6"), "IPv4"),
        "protocol": a.Attribute(_protocol, None),
        "port_range_min": a.Attribute(_PORT, None),
        "port_range_max": a.Attribute(_PORT, None),
        "remote_group_id": a.Attribute(a.optional(a.uuid), None),
        "remote_ip_prefix": a.Attribute(a.optional(_prefix), None),
        "description": a.Attribute(a.text(), ""),
        "project_id": a.Attribute(a.text(), put=False),
    },
    read_only=frozenset({"remote_address_group_id", "normalized_cidr", "belongs_to_default_sg"}),
    view=rule_view,
    scope="project_id = :me",
    columns={
        "id": "id", "project_id": "project_id", "security_group_id": "group_id", "direction": "direction",
        "ethertype": "ethertype", "protocol": "protocol", "remote_group_id": "remote_group_id",
        "remote_ip_prefix": "remote_prefix", "description": "description",
    },
    special={"port_range_min": _by_port("port_min"), "port_range_max": _by_port("port_max")},
    create=create_rule, update=None, delete=delete_rule,
)  # fmt: skip

__all__ = ["GROUP", "RULE", "with_rules"]
