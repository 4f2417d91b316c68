"""Roles of users and groups on projects, domains and the system; /v3/role_assignments."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from kilonova.http.errors import BadRequest, Forbidden, NotFound, NotImplementedHere
from kilonova.http.message import Response, empty
from kilonova.http.routing import Route
from kilonova.identity.directory import Edit
from kilonova.identity.records import SYSTEM, Domain, Grant, Group, Project, Record, Role, User
from kilonova.identity.resources import groups, projects, users
from kilonova.identity.resources.call import Call, Handler, route
from kilonova.identity.resources.domains import existing as existing_domain
from kilonova.identity.resources.listing import collection, pages, truthy
from kilonova.identity.resources.roles import existing as existing_role
from kilonova.identity.resources.roles import shown as role_shown
from kilonova.identity.state import State


class _Place(NamedTuple):
    """Whose roles on what: from the path."""

    on: str
    target: str
    actor: str
    group: bool


def _place(call: Call) -> _Place:
    params = call.request.params
    group = "group_id" in params
    actor = params["group_id"] if group else params["user_id"]
    if "project_id" in params:
        return _Place("project", params["project_id"], actor, group)
    if "domain_id" in params:
        return _Place("domain", params["domain_id"], actor, group)
    return _Place("system", SYSTEM, actor, group)


def _target(state: State, place: _Place) -> dict[str, str | None]:
    """Both ends must be in the reader's domain."""
    actor: Group | User | None = state.get(Group, place.actor) if place.group else state.get(User, place.actor)
    project = state.get(Project, place.target) if place.on == "project" else None
    of = project.domain_id if project else place.target if place.on == "domain" else None
    return {"target_domain_id": of} if actor is not None and of is not None and actor.domain_id == of else {}


def _authorize(call: Call, place: _Place, write: str | None) -> None:
    if place.on == "system":
        call.authorize("create_system_grant" if write else "list_system_grants")
    elif write:
        call.authorize(write)
    else:
        call.authorize("check_grant", **_target(call.state, place))


def _exists(state: State, place: _Place) -> None:
    if place.group:
        groups.existing(state, place.actor)
    else:
        users.existing(state, place.actor)
    if place.on == "project":
        projects.existing(state, place.target)
    elif place.on == "domain":
        existing_domain(state, place.target)


def _grant(place: _Place, role: str) -> Grant:
    return Grant(actor=place.actor, group=place.group, target=place.target, on=place.on, role=role)


async def listing(call: Call) -> Response:
    place = _place(call)
    _authorize(call, place, None)
    _exists(call.state, place)
    ids = sorted(each.role for each in call.state.grants_of(place.actor) if each.target == place.target)
    found = (call.state.get(Role, id_) for id_ in ids)
    return collection(call, "roles", [role_shown(call, each) for each in found if each is not None], ("name",))


def _known(state: State, place: _Place, role_id: str) -> Grant:
    _exists(state, place)
    existing_role(state, role_id)
    found = state.get(Grant, _grant(place, role_id).key)
    if found is None:
        raise NotFound("Could not find role assignment.")
    return found


async def check(call: Call) -> Response:
    place = _place(call)
    _authorize(call, place, None)
    _known(call.state, place, call.param("role_id"))
    return empty(204)


async def put(call: Call) -> Response:
    place, role_id = _place(call), call.param("role_id")
    _authorize(call, place, "create_grant")

    def decide(state: State, edit: Edit) -> None:
        _exists(state, place)
        role = existing_role(state, role_id)
        if role.domain_id is not None:
            project = state.get(Project, place.target)
            if role.domain_id != (project.domain_id if project is not None else place.target):
                raise Forbidden("A role of a domain is granted in that domain only.")
        edit.put(_grant(place, role_id))

    await call.change(decide)
    return empty(204)


async def delete(call: Call) -> Response:
    place, role_id = _place(call), call.param("role_id")
    _authorize(call, place, "revoke_grant")
    await call.change(lambda state, edit: edit.delete(_known(state, place, role_id)))
    return empty(204)


# Role assignments


def _candidates(state: State, query: dict[str, str], effective: bool) -> Iterator[Grant]:
    """All that the query may want, found by the narrowest index."""
    place = query.get("scope.project.id", query.get("scope.domain.id"))
    actor = query.get("user.id", query.get("group.id"))
    if place is not None:
        found = state.grants_on(place)
    elif actor is not None:
        actors = {actor, *(state.groups_of(actor) if effective else ())}
        found = [each for one in actors for each in state.grants_of(one)]
    else:
        found = state.values(Grant)
    return iter(sorted(found, key=lambda each: each.key))


def _effective(state: State, grants: Iterator[Grant]) -> Iterator[Grant]:
    """Each grant as the users' own: groups opened, implied roles added."""
    seen = set()
    for grant in grants:
        for actor in state.members_of(grant.actor) if grant.group else (grant.actor,):
            for role in sorted(state.implied(grant.role)):
                new = Grant(actor=actor, target=grant.target, on=grant.on, role=role)
                if new.key not in seen:
                    seen.add(new.key)
                    yield new


def _named(call: Call, record: Record | None, domain_id: str | None, names: bool) -> dict[str, Any]:
    shown: dict[str, Any] = {"id": record.key if record is not None else None}
    if names and record is not None:
        shown["name"] = getattr(record, "name", "")
        if domain_id is not None:
            domain = call.state.get(Domain, domain_id)
            shown["domain"] = {"id": domain_id, "name": domain.name if domain is not None else ""}
    return shown


def _assignment(call: Call, grant: Grant, names: bool) -> dict[str, Any]:
    state = call.state
    actor: Group | User | None = state.get(Group, grant.actor) if grant.group else state.get(User, grant.actor)
    kind = "group" if grant.group else "user"
    if grant.on == "system":
        scope: dict[str, Any] = {"system": {"all": True}}
        path = f"/system/{kind}s/{grant.actor}/roles/{grant.role}"
    else:
        place: Project | Domain | None
        if grant.on == "project":
            place = state.get(Project, grant.target)
            of = place.domain_id if place is not None else None
        else:
            place, of = state.get(Domain, grant.target), None
        scope = {grant.on: _named(call, place, of, names)}
        path = f"/{grant.on}s/{grant.target}/{kind}s/{grant.actor}/roles/{grant.role}"
    role = state.get(Role, grant.role)
    return {
        "role": _named(call, role, role.domain_id if role is not None else None, names),
        kind: _named(call, actor, actor.domain_id if actor is not None else None, names),
        "scope": scope,
        "links": {"assignment": call.base + path},
    }


async def assignments(call: Call) -> Response:
    query = dict(call.request.query)
    state = call.state
    only = call.only_domain("list_role_assignments")
    if "scope.OS-INHERIT:inherited_to" in query:
        return collection(call, "role_assignments", [])
    if truthy(query.get("include_subtree")):
        raise NotImplementedHere("include_subtree needs a real Keystone; configure [keystone_authtoken].")
    effective = truthy(query["effective"] or "1") if "effective" in query else False
    if effective and "group.id" in query:
        raise BadRequest("Combining effective and group filter will always result in an empty list.")
    if "user.id" in query and "group.id" in query:
        raise BadRequest("Name a user or a group, not both.")
    grants = _candidates(state, query, effective)
    found = _effective(state, grants) if effective else grants
    names = truthy(query["include_names"] or "1") if "include_names" in query else False
    wanted = [each for each in found if _wanted(each, query) and _inside(state, each, only)]
    return await pages(call, "role_assignments", wanted, lambda call, each: _assignment(call, each, names), ())


def _wanted(grant: Grant, query: dict[str, str]) -> bool:
    checks = {
        "user.id": None if grant.group else grant.actor,
        "group.id": grant.actor if grant.group else None,
        "role.id": grant.role,
        "scope.project.id": grant.target if grant.on == "project" else None,
        "scope.domain.id": grant.target if grant.on == "domain" else None,
    }
    if "scope.system" in query and (grant.on != "system" or query["scope.system"].lower() != "all"):
        return False
    return all(query[key] == value for key, value in checks.items() if key in query)


def _inside(state: State, grant: Grant, domain: str | None) -> bool:
    if domain is None:
        return True
    project = state.get(Project, grant.target) if grant.on == "project" else None
    return domain == (project.domain_id if project is not None else grant.target)


def routes() -> list[Route]:
    handlers: tuple[tuple[str, Handler], ...] = (("GET", check), ("HEAD", check), ("PUT", put), ("DELETE", delete))
    found = [route("GET", "/role_assignments", assignments), route("HEAD", "/role_assignments", assignments)]
    for target in ("projects/{project_id}", "domains/{domain_id}", "system"):
        for actor in ("users/{user_id}", "groups/{group_id}"):
            base = f"/{target}/{actor}/roles"
            found += [route("GET", base, listing), route("HEAD", base, listing)]
            found += [route(method, f"{base}/{{role_id}}", handler) for method, handler in handlers]
    return found
