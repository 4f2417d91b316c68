"""/limits: a project's quotas under the names that older clients know."""

from __future__ import annotations

from typing import Any

from kilonova.api.microversion.fields import Field, In, Resource, query
from kilonova.api.microversion.schemas import TEXT
from kilonova.api.operation import Call, operation
from kilonova.api.quotas.resources import numbers

_RULE = "os_compute_api:limits"


def _limit(name: str) -> Any:
    return lambda found, _: found[name].limit


def _used(name: str) -> Any:
    return lambda found, _: found[name].in_use


LIMITS = Resource(
    "absolute",
    [
        Field("maxTotalInstances", show=_limit("instances")),
        Field("maxTotalCores", show=_limit("cores")),
        Field("maxTotalRAMSize", show=_limit("ram")),
        Field("maxTotalKeypairs", show=_limit("key_pairs")),
        Field("maxServerMeta", show=_limit("metadata_items")),
        Field("maxImageMeta", until=38, show=_limit("metadata_items")),
        Field("maxPersonality", until=56, show=_limit("injected_files")),
        Field("maxPersonalitySize", until=56, show=_limit("injected_file_content_bytes")),
        Field("maxServerGroups", show=_limit("server_groups")),
        Field("maxServerGroupMembers", show=_limit("server_group_members")),
        Field("maxTotalFloatingIps", until=35, show=_limit("floating_ips")),
        Field("maxSecurityGroups", until=35, show=_limit("security_groups")),
        Field("maxSecurityGroupRules", until=35, show=_limit("security_group_rules")),
        Field("totalInstancesUsed", show=_used("instances")),
        Field("totalCoresUsed", show=_used("cores")),
        Field("totalRAMUsed", show=_used("ram")),
        Field("totalServerGroupsUsed", show=_used("server_groups")),
        Field("totalFloatingIpsUsed", until=35, show=_used("floating_ips")),
        Field("totalSecurityGroupsUsed", until=35, show=_used("security_groups")),
    ],
)
_VIEW = LIMITS.view()


@operation("GET", "/limits", _RULE, query=query(("tenant_id", In(TEXT))))
async def show(call: Call) -> Any:
    project = call.project_id
    if "tenant_id" in call.query:
        call.authorize(_RULE + ":other_project")
        project = call.one("tenant_id") or ""
    found = await numbers(call, project)
    return {"limits": {"rate": [], "absolute": _VIEW.render(found, None, call.version)}}


OPERATIONS = (show,)
