"""Log-in: what a request to make a token proves and asks for.

Unknown user, wrong password, disabled user or domain: the same answer after the same work.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kilonova.http.errors import BadRequest, Forbidden, NotImplementedHere, TooMany, Unauthorized
from kilonova.identity.issue import UNSCOPED, Proof, Scope, default_scope, issue
from kilonova.identity.records import SYSTEM, ApplicationCredential, Domain, Project, User
from kilonova.identity.resources.body import listing, mapping, text
from kilonova.identity.state import State
from kilonova.identity.validator import REFUSAL
from kilonova.identity.verdict import Refused, Verdict
from kilonova.log import get_logger

if TYPE_CHECKING:
    from kilonova.identity.service import Identity

log = get_logger(__name__)
_ELSEWHERE = ("totp", "oauth1", "mapped", "saml2", "openid", "kerberos", "x509", "external")


async def authenticate(identity: Identity, body: Any, address: str) -> Verdict:
    """A new token for `{"auth": ...}`. Raises http errors: 400, 401, 403, 429, 501, 503."""
    auth = mapping(mapping(body, "the body"), "auth", at="auth")
    proofs = mapping(auth, "identity", at="identity")
    methods = listing(proofs, "methods", most=10)
    if not methods or not all(isinstance(method, str) for method in methods):
        raise BadRequest("Invalid input for 'methods': it must list the names of authentication methods.")
    for method in methods:
        if method in _ELSEWHERE:
            raise NotImplementedHere(f"The method {method!r} needs a real Keystone; configure [keystone_authtoken].")
        if method not in _METHODS:
            raise Unauthorized(REFUSAL)
    await identity.directory.fresh()
    found = [await _METHODS[method](identity, mapping(proofs, method, at=method), address) for method in set(methods)]
    proof = _together(found)
    state = await identity.directory.fresh()
    wished = auth.get("scope")
    if proof.appcred is not None:
        if wished is not None:
            raise Unauthorized("Application credentials cannot request a scope.")
        scope = Scope("project", proof.appcred.project_id)
    elif wished is None:
        scope = default_scope(state, proof.user)
    else:
        scope = _scope(state, wished)
    try:
        return issue(state, proof, scope, identity.directory.clock(), identity.validity_us)
    except Refused as error:
        log.info("log-in of user %s refused: %s", proof.user.id, error)
        raise Unauthorized(REFUSAL) from None


def _together(found: list[Proof]) -> Proof:
    """Several methods must prove the same user; the narrowest limits hold."""
    first = found[0]
    for other in found[1:]:
        if other.user.id != first.user.id or (other.appcred and first.appcred and other.appcred != first.appcred):
            raise Unauthorized(REFUSAL)
        ends = [each for each in (first.expires_at, other.expires_at) if each is not None]
        first = Proof(
            first.user, tuple(dict.fromkeys((*first.methods, *other.methods))), min(ends, default=None),
            first.parent or other.parent, first.appcred or other.appcred,
        )  # fmt: skip
    return first


async def prove_password(identity: Identity, user: User | None, named: str, secret: str, address: str) -> User:
    """The user, if the password is theirs. Raises Unauthorized, TooMany, Unavailable."""

    def gate() -> None:
        wait = identity.throttle.wait_s(named, address)
        if wait:
            raise TooMany("Too many failed log-ins; try again later.", headers={"retry-after": str(wait)})

    stored = user.password_hash if user is not None else ""
    right = await identity.passwords.verify(stored, secret, gate)
    if not right or user is None:
        identity.throttle.failed(named, address)
        raise Unauthorized(REFUSAL)
    identity.throttle.succeeded(named, address)
    return user


async def _password(identity: Identity, body: dict[str, Any], address: str) -> Proof:
    wanted = mapping(body, "user", at="user")
    secret = text(wanted, "password", most=4096)
    user, named = find_user(identity.directory.state, wanted)
    return Proof(await prove_password(identity, user, named, secret, address), ("password",))


async def _token(identity: Identity, body: dict[str, Any], address: str) -> Proof:
    verdict = await identity.validator.judge(text(body, "id", most=4096))
    old = verdict.token
    if verdict.appcred is not None:
        raise Forbidden("A token of an application credential cannot be used to make another.")
    return Proof(verdict.user, tuple(dict.fromkeys(("token", *old.methods))), old.expires_at, old.audit_ids[-1])


async def _appcred(identity: Identity, body: dict[str, Any], address: str) -> Proof:
    secret = text(body, "secret", most=4096)
    state = identity.directory.state
    named: str
    if "id" in body:
        named = text(body, "id", most=64)
        found = state.get(ApplicationCredential, named)
    else:
        user, of = find_user(state, mapping(body, "user", at="user"))
        name = text(body, "name")
        named = f"{of}/{name}"
        found = state.named(ApplicationCredential, name, user.id) if user is not None else None
    named = f"appcred:{named}"
    wait = identity.throttle.wait_s(named, address)
    if wait:
        raise TooMany("Too many failed log-ins; try again later.", headers={"retry-after": str(wait)})
    right = await identity.passwords.verify(found.secret_hash if found is not None else "", secret)
    user = identity.directory.state.get(User, found.user_id) if found is not None else None
    if not right or found is None or user is None:
        identity.throttle.failed(named, address)
        raise Unauthorized(REFUSAL)
    identity.throttle.succeeded(named, address)
    return Proof(user, ("application_credential",), appcred=found)


_METHODS = {"password": _password, "token": _token, "application_credential": _appcred}


def find_user(state: State, wanted: Mapping[str, Any]) -> tuple[User | None, str]:
    """The user of `{"id"}` or `{"name", "domain"}`, and what to count failures under."""
    if "id" in wanted:
        id_ = text(wanted, "id", most=64)
        return state.get(User, id_), id_
    name = text(wanted, "name")
    domain = find_domain(state, mapping(wanted, "domain", at="domain"))
    found = state.named(User, name, domain.id) if domain is not None else None
    return found, found.id if found is not None else f"{domain.id if domain else ''}/{name}"


def find_domain(state: State, wanted: Mapping[str, Any]) -> Domain | None:
    """The domain of `{"id"}` or `{"name"}`."""
    if "id" in wanted:
        return state.get(Domain, text(wanted, "id", most=64))
    return state.named(Domain, text(wanted, "name"))


def _scope(state: State, wished: Any) -> Scope:
    """What a `scope` asks for. Raises BadRequest, Unauthorized."""
    if wished == "unscoped":
        return UNSCOPED
    wished = mapping(wished, "scope")
    if len(wished) != 1:
        raise BadRequest("Invalid input for 'scope': name one of project, domain, system, unscoped.")
    kind = next(iter(wished))
    if kind == "unscoped":
        return UNSCOPED
    if kind == "OS-TRUST:trust":
        raise NotImplementedHere("Trusts need a real Keystone; configure [keystone_authtoken].")
    body = mapping(wished, kind, at=kind)
    if kind == "system":
        if body.get("all") is not True:
            raise BadRequest("Invalid input for 'system': the only system scope is {\"all\": true}.")
        return Scope("system", SYSTEM)
    if kind == "domain":
        domain = find_domain(state, body)
        if domain is None:
            raise Unauthorized(REFUSAL)
        return Scope("domain", domain.id)
    if kind != "project":
        raise BadRequest("Invalid input for 'scope': name one of project, domain, system, unscoped.")
    if "id" in body:
        project = state.get(Project, text(body, "id", most=64))
    else:
        domain = find_domain(state, mapping(body, "domain", at="domain"))
        project = state.named(Project, text(body, "name"), domain.id) if domain is not None else None
    if project is None:
        raise Unauthorized(REFUSAL)
    return Scope("project", project.id)

