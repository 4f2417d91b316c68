"""What the embedded network service says of itself: only what is true."""

from __future__ import annotations

from typing import Any

_UPDATED = "2026-11-01T00:00:00-00:00"
_LISTED = {
    "binding": ("Port Binding", "Which host a port is bound to."),
    "external-net": ("Neutron external network", "Marks networks that lead outside."),
    "net-mtu": ("Network MTU", "The MTU of a network."),
    "net-mtu-writable": ("Network MTU (writable)", "Setting the MTU of a network."),
    "pagination": ("Pagination support", "Lists in pages."),
    "project-id": ("project_id field enabled", "project_id beside tenant_id."),
    "quotas": ("Quota management support", "Limits of a project, to read."),
    "security-group": ("security-group", "Security groups and rules as records."),
    "sorting": ("Sorting support", "Lists in order."),
    "standard-attr-description": ("standard-attr-description", "A description on every resource."),
    "standard-attr-revisions": ("Resource revision numbers", "A number that every change raises."),
    "standard-attr-tag": ("Tag support", "Tags on resources."),
    "standard-attr-timestamp": ("Resource timestamps", "When a resource was made and changed."),
    "stateful-security-group": ("Stateful security group", "The attribute stateful of security groups."),
    "subnet-service-types": ("Subnet service types", "The attribute service_types of subnets."),
    "tag-ports-during-bulk-creation": ("Tag Ports During Bulk Creation", "Tags in the create of a port."),
}

EXTENSIONS: dict[str, dict[str, Any]] = {
    alias: {"alias": alias, "name": name, "description": text, "updated": _UPDATED, "links": []}
    for alias, (name, text) in _LISTED.items()
}

NOTHING = ("routers", "floatingips", "subnetpools", "address-scopes", "agents", "trunks", "rbac-policies")
"""Collections of Neutron that are empty here: they can be listed, and making one is refused."""
