"""What a rule may ask of a caller by name.

``FLAT`` are the names that services of this family pass to their policy; ``nested`` serves dotted names
such as ``token.project.domain.id``, seldom used and therefore slow.
"""

from __future__ import annotations

from typing import Any

from kilonova.model.credentials import Credentials

# Name in a rule -> attribute of Credentials.
FLAT: dict[str, str] = {
    "user_id": "user_id",
    "user": "user_id",
    "user_domain_id": "user_domain_id",
    "project_id": "project_id",
    "tenant": "project_id",
    "tenant_id": "project_id",
    "project_domain_id": "project_domain_id",
    "domain_id": "domain_id",
    "system_scope": "system_scope",
    "system": "system_scope",
    "is_admin": "is_admin",
    "is_admin_project": "is_admin_project",
    "service_user_id": "service_user_id",
    "service_project_id": "service_project_id",
}


def as_dict(creds: Credentials) -> dict[str, Any]:
    """Return the caller as nested mappings, with the token's parts under ``token`` as Keystone shows them."""
    facts: dict[str, Any] = {name: getattr(creds, attribute) for name, attribute in FLAT.items()}
    facts["roles"] = sorted(creds.roles)
    facts["service_roles"] = sorted(creds.service_roles)
    token: dict[str, Any] = {
        "user": {"id": creds.user_id, "name": creds.user_name, "domain": {"id": creds.user_domain_id}},
        "roles": [{"name": role} for role in sorted(creds.roles)],
        "methods": [creds.method],
    }
    if creds.project_id is not None:
        domain = {"id": creds.project_domain_id}
        token["project"] = {"id": creds.project_id, "name": creds.project_name, "domain": domain}
    if creds.domain_id is not None:
        token["domain"] = {"id": creds.domain_id}
    if creds.system_scope is not None:
        token["system"] = {creds.system_scope: True}
    facts["token"] = token
    return facts


def nested(creds: Credentials, path: list[str], wanted: str | None) -> bool:
    """Tell whether the value at ``path`` (any element, where a list is on the way) equals ``wanted``."""
    return wanted is not None and _holds(as_dict(creds), path, wanted)


def _holds(value: Any, path: list[str], wanted: str) -> bool:
    if isinstance(value, list):
        return any(_holds(each, path, wanted) for each in value)
    if not path:
        return value is not None and str(value) == wanted
    return isinstance(value, dict) and path[0] in value and _holds(value[path[0]], path[1:], wanted)
