"""Whether a token still counts, and what its bearer may do now.

Pure: a token, the State and the time in, credentials or a refusal out. Disabled, deleted, revoked, a newer
password and lost roles are all seen here and nowhere else.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from kilonova.identity.records import SYSTEM, ApplicationCredential, Domain, Project, Revocation, Role, User
from kilonova.identity.state import State
from kilonova.identity.tokens import Token
from kilonova.model.credentials import Credentials


class Refused(Exception):
    """The token does not count; the text is for the log, never for the client."""


class Verdict(NamedTuple):
    """A token that counts, with everything it names."""

    token: Token
    user: User
    domain: Domain
    """The user's."""
    project: Project | None
    scope_domain: Domain | None
    """The project's domain, or the domain of the scope."""
    roles: tuple[Role, ...]
    appcred: ApplicationCredential | None


def judge(state: State, token: Token, now: int, *, allow_expired: bool = False) -> Verdict:
    """Raises Refused. `now` in microseconds UTC; `allow_expired` passes over the token's own end only."""
    if now >= token.expires_at and not allow_expired:
        raise Refused("expired")
    if state.get(Revocation, token.audit_ids[0]) is not None:
        raise Refused("revoked")
    user = state.get(User, token.user_id)
    if user is None or not user.enabled:
        raise Refused("its user is gone or disabled")
    domain = _domain(state, user.domain_id)
    project: Project | None = None
    scope_domain: Domain | None = None
    if token.scope == "project":
        project = state.get(Project, token.scope_id)
        if project is None or not project.enabled:
            raise Refused("its project is gone or disabled")
        scope_domain = _domain(state, project.domain_id)
    elif token.scope == "domain":
        scope_domain = _domain(state, token.scope_id)
    if token.epoch != epoch(user, domain, project, scope_domain):
        raise Refused("a new password, or something was disabled since")
    ids = state.roles(user.id, SYSTEM if token.scope == "system" else token.scope_id) if token.scope else frozenset()
    appcred: ApplicationCredential | None = None
    if token.appcred_id:
        appcred = state.get(ApplicationCredential, token.appcred_id)
        if appcred is None or (appcred.expires_at is not None and now >= appcred.expires_at):
            raise Refused("its application credential is gone")
        ids &= frozenset().union(*(state.implied(role) for role in appcred.roles))
    # A role of one domain may bear any name, `admin` too: it counts only for what it implies.
    found = (role for id_ in ids if (role := state.get(Role, id_)) is not None and role.domain_id is None)
    roles = tuple(sorted(found, key=lambda role: role.name))
    if token.scope and not roles:
        raise Refused("no role is left on what it is for")
    return Verdict(token, user, domain, project, scope_domain, roles, appcred)


def epoch(*named: User | Domain | Project | None) -> int:
    """The sum of the epochs of what a token names: it moves when any of them does."""
    return sum(each.epoch for each in named if each is not None)


def _domain(state: State, id_: str) -> Domain:
    domain = state.get(Domain, id_)
    if domain is None or not domain.enabled:
        raise Refused("a domain is gone or disabled")
    return domain


def credentials(verdict: Verdict, text: str) -> Credentials:
    """What the services see of a token that counts; `text` is the bearer token."""
    token, user = verdict.token, verdict.user
    scope_domain = verdict.scope_domain.id if verdict.scope_domain is not None else None
    return Credentials(
        user_id=user.id,
        user_domain_id=user.domain_id,
        user_name=user.name,
        project_id=verdict.project.id if verdict.project is not None else None,
        project_domain_id=scope_domain if verdict.project is not None else None,
        project_name=verdict.project.name if verdict.project is not None else None,
        domain_id=scope_domain if token.scope == "domain" else None,
        system_scope="all" if token.scope == "system" else None,
        roles=frozenset(role.name.lower() for role in verdict.roles),
        token_id=hashlib.sha256(text.encode()).hexdigest()[:32],
        audit_id=token.audit_ids[0],
        expires_at=token.expires_at,
        method=token.methods[0] if token.methods else "token",
    )
