"""Making tokens: from a proven user and a wished scope to a token that counts."""

from __future__ import annotations

from typing import NamedTuple

from kilonova.identity.records import DEFAULT_DOMAIN, ApplicationCredential, Domain, Project, User
from kilonova.identity.state import State
from kilonova.identity.tokens import Token, new_audit_id
from kilonova.identity.verdict import Refused, Verdict, epoch, judge

HOUR_US = 3600 * 1_000_000


class Scope(NamedTuple):
    """`kind` is `project`, `domain`, `system` or "" (unscoped)."""

    kind: str
    id: str


UNSCOPED = Scope("", "")


class Proof(NamedTuple):
    """Who somebody has shown to be."""

    user: User
    methods: tuple[str, ...]
    expires_at: int | None = None
    """Not later than this: that of the token it was shown with."""
    parent: str = ""
    """Audit id of the first token of the chain."""
    appcred: ApplicationCredential | None = None


def default_scope(state: State, user: User) -> Scope:
    """The user's default project where that works, else unscoped."""
    project = state.get(Project, user.default_project_id or "")
    if project is not None and project.enabled and state.roles(user.id, project.id):
        domain = state.get(Domain, project.domain_id)
        if domain is not None and domain.enabled:
            return Scope("project", project.id)
    return UNSCOPED


def issue(state: State, proof: Proof, scope: Scope, now: int, validity_us: int) -> Verdict:
    """A new token and what it means. Raises Refused when the user may not have it."""
    user = proof.user
    project = state.get(Project, scope.id) if scope.kind == "project" else None
    of = project.domain_id if project is not None else scope.id if scope.kind == "domain" else ""
    named = (user, state.get(Domain, user.domain_id or DEFAULT_DOMAIN), project, state.get(Domain, of) if of else None)
    ends = now + validity_us
    if proof.expires_at is not None:
        ends = min(ends, proof.expires_at)
    if proof.appcred is not None and proof.appcred.expires_at is not None:
        ends = min(ends, proof.appcred.expires_at)
    own = new_audit_id()
    token = Token(
        user_id=user.id,
        methods=proof.methods,
        scope=scope.kind,
        scope_id=scope.id,
        issued_at=now,
        expires_at=ends,
        audit_ids=(own, proof.parent) if proof.parent else (own,),
        epoch=epoch(*named),
        appcred_id=proof.appcred.id if proof.appcred is not None else "",
    )
    return judge(state, token, now)


__all__ = ["UNSCOPED", "Proof", "Refused", "Scope", "default_scope", "issue"]
