"""A project's default security group, made when it is first needed.

Its rules are Neutron's: everything out; in only what comes from members of the group.
"""

from __future__ import annotations

import hashlib
from uuid import UUID, uuid5

from kilonova.db.database import Tx
from kilonova.db.queries.networks import GROUPS, RULES, GroupRow, RuleRow, default_group_id

_RULES = (("egress", "IPv4", False), ("egress", "IPv6", False), ("ingress", "IPv4", True), ("ingress", "IPv6", True))


def digest(*parts: object) -> str:
    """What makes a rule the same as another of its group."""
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def rule_digest(rule: RuleRow) -> str:
    return digest(
        rule.direction, rule.ethertype, rule.protocol, rule.port_min, rule.port_max, rule.remote_group_id,
        rule.remote_prefix,
    )  # fmt: skip


async def add_rules(tx: Tx, group: GroupRow, remote: bool) -> None:
    """The rules every new group has (all out); with `remote` those of a default group."""
    for direction, ethertype, from_members in _RULES:
        if from_members and not remote:
            continue
        rule = RuleRow(
            str(uuid5(UUID(group.id), f"{direction} {ethertype}")), group.id, group.project_id, "", direction,
            ethertype, remote_group_id=group.id if from_members else None, created_at=group.created_at,
            updated_at=group.created_at,
        )  # fmt: skip
        rule.digest = rule_digest(rule)
        await RULES.insert(tx, rule)


async def ensure_default_group(tx: Tx, project_id: str, now: int) -> str:
    """The id of the project's default group, which exists afterwards."""
    group_id = default_group_id(project_id)
    if await tx.fetch_one(GROUPS.get, {"id": group_id}) is None:
        group = GroupRow(
            group_id, project_id, "default", "Default security group", created_at=now, updated_at=now
        )
        if await GROUPS.insert(tx, group):
            await add_rules(tx, group, remote=True)
    return group_id
