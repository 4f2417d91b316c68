"""A token's meaning as JSON, as Keystone's clients read it."""

from __future__ import annotations

from typing import Any

from kilonova.identity.records import Domain
from kilonova.identity.state import State
from kilonova.identity.timestamps import spelled
from kilonova.identity.verdict import Verdict


def _domain(domain: Domain | None) -> dict[str, str]:
    assert domain is not None
    return {"id": domain.id, "name": domain.name}


def document(state: State, verdict: Verdict, catalog: list[dict[str, Any]] | None) -> dict[str, Any]:
    """The member `token` of an answer; without a catalog when that is None or the token is unscoped."""
    token, user = verdict.token, verdict.user
    shown: dict[str, Any] = {
        "methods": list(token.methods),
        "user": {
            "id": user.id, "name": user.name, "domain": _domain(verdict.domain), "password_expires_at": None,
        },
        "audit_ids": list(token.audit_ids),
        "expires_at": spelled(token.expires_at),
        "issued_at": spelled(token.issued_at),
    }  # fmt: skip
    if token.scope == "project" and verdict.project is not None:
        project = verdict.project
        shown["project"] = {"id": project.id, "name": project.name, "domain": _domain(verdict.scope_domain)}
        shown["is_domain"] = False
    elif token.scope == "domain":
        shown["domain"] = _domain(verdict.scope_domain)
    elif token.scope == "system":
        shown["system"] = {"all": True}
    if token.scope:
        shown["roles"] = [{"id": role.id, "name": role.name} for role in verdict.roles]
        if catalog is not None:
            shown["catalog"] = catalog
    if verdict.appcred is not None:
        each = verdict.appcred
        shown["application_credential"] = {"id": each.id, "name": each.name, "restricted": not each.unrestricted}
    return shown
