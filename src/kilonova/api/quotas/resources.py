"""The resources that have quotas, the versions that show them, and their numbers for one project or user."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from kilonova.api.operation import Call
from kilonova.db.queries import quota
from kilonova.db.queries.quota import LIMITS, USAGES, Limits, resolve

# Network resources are the network service's since 2.36; below, they are shown with what was fixed in code.
NETWORK = {"fixed_ips": -1, "floating_ips": -1, "security_groups": -1, "security_group_rules": -1}
FILES = ("injected_files", "injected_file_content_bytes", "injected_file_path_bytes")
COUNTED = ("instances", "cores", "ram")
GROUPS = ("server_groups", "server_group_members")


class Number(Struct, frozen=True):
    """A limit (-1: none) and what of it is in use."""

    limit: int
    in_use: int


async def limits(call: Call, project: str, user: str = "") -> Limits:
    """The limits of a project, and of a user in it."""
    found = await call.services.databases.global_.fetch(LIMITS, {"project": project, "user": user})
    defaults = {**NETWORK, **call.services.settings.quotas}
    return resolve([(row[0], row[1], row[2]) for row in found], defaults)


async def defaults(call: Call) -> Mapping[str, int]:
    """What holds for a project of which nobody said anything."""
    return (await limits(call, "")).project


async def numbers(call: Call, project: str, user: str = "") -> dict[str, Number]:
    """Limits with usage; of the user where one is named."""
    found = await limits(call, project, user)
    table = {**found.project, **(found.user if user else {})}
    used = await _used(call, project, user)
    return {name: Number(limit, used.get(name, 0)) for name, limit in table.items()}


async def _used(call: Call, project: str, user: str) -> dict[str, int]:
    whole = call.services.databases.global_
    found = await whole.fetch(USAGES, {"project": project, "user": user})
    used = {row[0]: row[1] for row in found}
    if not set(COUNTED) <= used.keys():
        used |= await quota.counted(whole, project, user)
    # Keys are counted per user and shown as nothing, since they belong to no project.
    used["key_pairs"] = 0
    return used


