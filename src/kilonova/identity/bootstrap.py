"""The first accounts of a cloud.

Nothing has a default password. What exists is left as it is, so a start may be repeated, and several
processes may start at once: one of them makes the accounts.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from msgspec.structs import replace

from kilonova.identity.directory import Edit
from kilonova.identity.records import DEFAULT_DOMAIN, SYSTEM, Domain, Grant, Implication, Project, Role, User, new_id
from kilonova.identity.service import Identity
from kilonova.identity.state import State
from kilonova.log import get_logger

log = get_logger(__name__)
ROLES = ("admin", "manager", "member", "reader", "service")
IMPLIED = (("admin", "manager"), ("manager", "member"), ("member", "reader"))
PROJECTS = {"admin": "Where the administrators are.", "demo": "Somewhere to begin.", "service": "The cloud's own."}


async def bootstrap(
    identity: Identity, *, service_users: Sequence[str] = ("nova",), renew: bool = False
) -> dict[str, str]:
    """Make the default domain, roles, projects and users; return the passwords made, by user name.

    Users: `admin` (admin on project admin and the system), `demo` (member of demo), `service_users` (admin and
    service on project service). Later calls make only service users that are missing: whoever deleted `demo`
    meant it. With `renew` the users that are there get new passwords: for when the file with the old
    ones is lost. Raises DatabaseError.
    """
    people = ("admin", "demo")
    state = identity.directory.state
    if not renew and state.get(Domain, DEFAULT_DOMAIN) and not _missing(state, service_users):
        return {}
    fresh = {name: secrets.token_urlsafe(24) for name in (*people, *service_users)}
    hashes = {name: await identity.passwords.hash(password) for name, password in fresh.items()}

    def decide(state: State, edit: Edit) -> list[str]:
        first = state.get(Domain, DEFAULT_DOMAIN) is None
        homes, roles = _places(state, edit)
        made = []
        for name in [*(people if first else ()), *_missing(state, service_users)]:
            _user(edit, name, hashes[name], homes, roles)
            made.append(name)
        for name in fresh if renew else ():
            user = state.named(User, name, DEFAULT_DOMAIN)
            if user is not None:
                edit.put(replace(user, password_hash=hashes[name], epoch=user.epoch + 1))
                made.append(name)
        return made

    made = await identity.directory.change(decide)
    if made:
        log.info("made passwords for %s", ", ".join(made))
    return {name: fresh[name] for name in made}


def _missing(state: State, names: Sequence[str]) -> list[str]:
    return [name for name in names if state.named(User, name, DEFAULT_DOMAIN) is None]


def _places(state: State, edit: Edit) -> tuple[dict[str, str], dict[str, str]]:
    """Ids of the projects and roles by name, made where they are missing."""
    if state.get(Domain, DEFAULT_DOMAIN) is None:
        edit.put(Domain(id=DEFAULT_DOMAIN, name="Default", description="The default domain"))
    roles, homes = {}, {}
    for name in ROLES:
        role = state.named(Role, name) or Role(id=new_id(), name=name, immutable=True)
        edit.put(role)
        roles[name] = role.id
    if not state.values(Implication):
        for prior, implied in IMPLIED:
            edit.put(Implication(prior=roles[prior], implied=roles[implied]))
    for name, description in PROJECTS.items():
        home = state.named(Project, name, DEFAULT_DOMAIN) or Project(
            id=new_id(), name=name, domain_id=DEFAULT_DOMAIN, parent_id=DEFAULT_DOMAIN, description=description
        )
        edit.put(home)
        homes[name] = home.id
    return homes, roles


def _user(edit: Edit, name: str, hashed: str, homes: dict[str, str], roles: dict[str, str]) -> None:
    home = homes[name if name in ("admin", "demo") else "service"]
    user = User(
        id=new_id(), name=name, domain_id=DEFAULT_DOMAIN, password_hash=hashed, default_project_id=home
    )  # fmt: skip
    edit.put(user)
    for role in {"admin": ("admin",), "demo": ("member",)}.get(name, ("admin", "service")):
        edit.put(Grant(actor=user.id, target=home, on="project", role=roles[role]))
    if name == "admin":
        edit.put(Grant(actor=user.id, target=SYSTEM, on="system", role=roles["admin"]))
