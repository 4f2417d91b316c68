"""/v3/users, their passwords, projects and groups."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from kilonova.http.errors import BadRequest, Conflict, NotFound
from kilonova.http.message import Response, empty, json_response
from kilonova.http.routing import Route
from kilonova.identity.authenticate import prove_password
from kilonova.identity.directory import Edit
from kilonova.identity.passwords import MAX_LENGTH
from kilonova.identity.records import Domain, Group, Project, User, new_id
from kilonova.identity.resources import body
from kilonova.identity.resources.call import Call, route
from kilonova.identity.resources.groups import shown as group_shown
from kilonova.identity.resources.listing import collection, pages
from kilonova.identity.resources.projects import domain_of
from kilonova.identity.resources.projects import shown as project_shown
from kilonova.identity.state import State

_KNOWN = (
    "name", "domain_id", "enabled", "password", "default_project_id", "options", "password_expires_at",
    "original_password", "federated",
)  # fmt: skip
_FIELDS = ("name", "domain_id", "enabled", "id", "default_project_id")


def shown(call: Call, user: User) -> dict[str, Any]:
    default = {"default_project_id": user.default_project_id} if user.default_project_id else {}
    return {
        **user.extra, "id": user.id, "name": user.name, "domain_id": user.domain_id, "enabled": user.enabled,
        "password_expires_at": None, "options": user.options, **default,
        "links": {"self": f"{call.base}/users/{user.id}"},
    }  # fmt: skip


def existing(state: State, id_: str) -> User:
    """Raises NotFound."""
    found = state.get(User, id_)
    if found is None:
        raise NotFound(f"Could not find user: {id_[:64]}.")
    return found


def target(state: State, id_: str) -> dict[str, str | None]:
    """The policy target of a user; of one who is not there, nobody's."""
    found = state.get(User, id_)
    return {"target_domain_id": found.domain_id, "user_id": found.id} if found else {}


async def listing(call: Call) -> Response:
    only = call.only_domain("list_users")
    found = call.state.candidates(User, call.request.query_one("name"))
    return await pages(call, "users", [each for each in found if only in (None, each.domain_id)], shown, _FIELDS)


async def show(call: Call) -> Response:
    id_ = call.param("user_id")
    call.authorize("get_user", **target(call.state, id_))
    return json_response({"user": shown(call, existing(call.state, id_))})


async def create(call: Call) -> Response:
    call.authorize("create_user")
    wanted = await call.member("user")
    secret = body.text(wanted, "password", None, most=MAX_LENGTH)
    new = User(
        id=new_id(),
        name=body.name_of(wanted),
        domain_id=domain_of(call, wanted),
        enabled=body.flag(wanted, "enabled", True),
        default_project_id=_default_project(wanted, None),
        options=body.options(wanted),
        extra=body.rest(wanted, _KNOWN),
    )
    if call.state.name_taken(new):  # before the dear hash; asked again when it counts
        raise _taken(new)
    if secret:
        new = replace(new, password_hash=await call.identity.passwords.hash(secret))
    await call.change(lambda state, edit: put(state, edit, new))
    return json_response({"user": shown(call, new)}, 201)


def _default_project(wanted: dict[str, Any], before: str | None) -> str | None:
    name = "default_project_id"
    found: str | None = body.text({name: before, **wanted}, name, None, most=64)
    return found or None


def _taken(user: User) -> Conflict:
    return Conflict(
        f"Conflict occurred attempting to store user - a user named {user.name!r} exists in the domain."
    )


def put(state: State, edit: Edit, user: User) -> None:
    if state.name_taken(user):
        raise _taken(user)
    if state.get(Domain, user.domain_id) is None:
        raise BadRequest(f"Could not find domain: {user.domain_id}.")
    edit.put(user)


async def update(call: Call) -> Response:
    call.authorize("update_user")
    id_ = call.param("user_id")
    wanted = await call.member("user")
    body.same_id(wanted, id_)
    existing(call.state, id_)
    secret = body.text(wanted, "password", None, most=MAX_LENGTH)
    hashed = await call.identity.passwords.hash(secret) if secret else ""

    def decide(state: State, edit: Edit) -> User:
        old = existing(state, id_)
        if wanted.get("domain_id", old.domain_id) != old.domain_id:
            raise BadRequest("'domain_id' of a user cannot be changed.")
        enabled = body.flag(wanted, "enabled", old.enabled)
        new = replace(
            old,
            name=body.name_of(wanted, old.name),
            enabled=enabled,
            default_project_id=_default_project(wanted, old.default_project_id),
            options={**old.options, **body.options(wanted)},
            extra=body.rest(wanted, _KNOWN, old.extra),
            password_hash=hashed or old.password_hash,
            epoch=old.epoch + bool(hashed or (old.enabled and not enabled)),
        )
        put(state, edit, new)
        return new

    return json_response({"user": shown(call, await call.change(decide))})


async def delete(call: Call) -> Response:
    call.authorize("delete_user")
    id_ = call.param("user_id")
    await call.change(lambda state, edit: edit.delete(existing(state, id_)))
    return empty(204)


async def password(call: Call) -> Response:
    """A user's own change: needs the old password and no token."""
    wanted = await call.member("user")
    id_ = call.param("user_id")
    new = body.text(wanted, "password", most=MAX_LENGTH, least=1)
    old = body.text(wanted, "original_password", most=MAX_LENGTH)
    state = await call.identity.directory.fresh()
    proven = await prove_password(call.identity, state.get(User, id_), id_, old, call.request.client)
    hashed = await call.identity.passwords.hash(new)

    def decide(state: State, edit: Edit) -> None:
        user = existing(state, id_)
        if user.password_hash != proven.password_hash:
            raise Conflict("The password was changed meanwhile.")
        edit.put(replace(user, password_hash=hashed, epoch=user.epoch + 1))

    await call.change(decide)
    return empty(204)


async def projects(call: Call) -> Response:
    id_ = call.param("user_id")
    call.authorize("list_user_projects", **target(call.state, id_))
    existing(call.state, id_)
    found = (call.state.get(Project, each) for each in sorted(call.state.targets(id_, "project")))
    rows = [project_shown(call, each) for each in found if each is not None]
    return collection(call, "projects", rows, ("name", "enabled", "domain_id"))


async def groups(call: Call) -> Response:
    id_ = call.param("user_id")
    call.authorize("list_groups_for_user", **target(call.state, id_))
    existing(call.state, id_)
    found = (call.state.get(Group, each) for each in sorted(call.state.groups_of(id_)))
    rows = [{**group_shown(call, each), "membership_expires_at": None} for each in found if each is not None]
    return collection(call, "groups", rows, ("name",))


def routes() -> list[Route]:
    one = "/users/{user_id}"
    return [
        route("GET", "/users", listing),
        route("POST", "/users", create),
        *(route(method, one, show) for method in ("GET", "HEAD")),
        route("PATCH", one, update),
        route("DELETE", one, delete),
        route("POST", f"{one}/password", password, auth=False),
        route("GET", f"{one}/projects", projects),
        route("GET", f"{one}/groups", groups),
    ]
