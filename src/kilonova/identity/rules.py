"""Who may do what in the identity API: rules in oslo.policy's language, by Keystone's names.

Admins do everything, system readers read everything, readers of a domain read what is in it, everybody
reads and changes what is their own. Source: openstack/keystone policies (facts). Target keys: `user_id`,
`project_id` (whose the thing is) and `target_domain_id` (the domain it is in).
"""

from __future__ import annotations

from kilonova.policy.rules import RuleDefault

_BASE = {
    "admin_required": "role:admin",
    "system_reader": "role:reader and system_scope:all",
    "owner": "user_id:%(user_id)s",
    "reads": "rule:admin_required or rule:system_reader",
    "reads_domain": "rule:reads or (role:reader and domain_id:%(target_domain_id)s)",
    "reads_or_owner": "rule:reads_domain or rule:owner",
    "admin_or_owner": "rule:admin_required or rule:owner",
}
_READS = ("region", "service", "endpoint", "role", "implied_role")
_WRITES = ("create", "update", "delete")

_RULES = {
    "get_domain": "rule:reads_domain or token.project.domain.id:%(target_domain_id)s",
    "list_domains": "rule:reads_domain",
    "get_project": "rule:reads_domain or project_id:%(project_id)s",
    "list_projects": "rule:reads_domain",
    "list_user_projects": "rule:reads_or_owner",
    "get_user": "rule:reads_or_owner",
    "list_users": "rule:reads_domain",
    "get_group": "rule:reads_domain",
    "list_groups": "rule:reads_domain",
    "list_groups_for_user": "rule:reads_or_owner",
    "list_users_in_group": "rule:reads_domain",
    "check_user_in_group": "rule:reads_or_owner",
    "add_user_to_group": "rule:admin_required",
    "remove_user_from_group": "rule:admin_required",
    "check_grant": "rule:reads_domain",
    "list_grants": "rule:reads_domain",
    "create_grant": "rule:admin_required",
    "revoke_grant": "rule:admin_required",
    "list_system_grants": "rule:reads",
    "create_system_grant": "rule:admin_required",
    "list_role_assignments": "rule:reads_domain",
    "list_role_inference_rules": "rule:reads",
    "validate_token": "rule:reads or role:service or rule:owner",
    "revoke_token": "rule:admin_required or rule:owner",
    "get_application_credential": "rule:reads or rule:owner",
    "list_application_credentials": "rule:reads or rule:owner",
    "create_application_credential": "rule:owner",
    "delete_application_credential": "rule:admin_or_owner",
    "get_credential": "rule:reads or rule:owner",
    "create_credential": "rule:admin_or_owner",
    "update_credential": "rule:admin_or_owner",
    "delete_credential": "rule:admin_or_owner",
    "get_limit": "rule:reads_domain or project_id:%(project_id)s",
    **{f"{verb}_{thing}": "rule:reads" for thing in _READS for verb in ("get", "list")},
    "get_region": "",
    "list_region": "",
    **{
        f"{verb}_{thing}": "rule:admin_required"
        for thing in (
            "domain", "project", "user", "group", "role", "implied_role", "region", "service", "endpoint",
            "registered_limit", "limit",
        )
        for verb in _WRITES
    },
}  # fmt: skip


def identity_rules() -> list[RuleDefault]:
    """The rules as the `Enforcer` takes them."""
    scopes = ("project", "domain", "system")
    named = [RuleDefault(f"identity:{name}", check, scopes) for name, check in _RULES.items()]
    return [*(RuleDefault(name, check) for name, check in _BASE.items()), *named]
