"""/v3/groups and who is in them."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from kilonova.http.errors import BadRequest, Conflict, NotFound
from kilonova.http.message import Response, empty, json_response
from kilonova.http.routing import Route
from kilonova.identity.directory import Edit
from kilonova.identity.records import Domain, Group, Membership, User, new_id
from kilonova.identity.resources import body
from kilonova.identity.resources.call import Call, route
from kilonova.identity.resources.listing import collection
from kilonova.identity.resources.projects import domain_of
from kilonova.identity.state import State

_KNOWN = ("name", "domain_id", "description")


def shown(call: Call, group: Group) -> dict[str, Any]:
    return {
        **group.extra, "id": group.id, "name": group.name, "domain_id": group.domain_id,
        "description": group.description, "links": {"self": f"{call.base}/groups/{group.id}"},
    }  # fmt: skip


def existing(state: State, id_: str) -> Group:
    """Raises NotFound."""
    found = state.get(Group, id_)
    if found is None:
        raise NotFound(f"Could not find group: {id_[:64]}.")
    return found


def _target(state: State, id_: str) -> dict[str, str | None]:
    found = state.get(Group, id_)
    return {"target_domain_id": found.domain_id} if found else {}


async def listing(call: Call) -> Response:
    only = call.only_domain("list_groups")
    rows = [shown(call, each) for each in call.state.values(Group) if only in (None, each.domain_id)]
    return collection(call, "groups", rows, ("name", "domain_id", "id"))


async def show(call: Call) -> Response:
    id_ = call.param("group_id")
    call.authorize("get_group", **_target(call.state, id_))
    return json_response({"group": shown(call, existing(call.state, id_))})


async def create(call: Call) -> Response:
    call.authorize("create_group")
    wanted = await call.member("group")
    new = Group(
        id=new_id(),
        name=body.name_of(wanted, most=64),
        domain_id=domain_of(call, wanted),
        description=body.description(wanted),
        extra=body.rest(wanted, _KNOWN),
    )
    await call.change(lambda state, edit: put(state, edit, new))
    return json_response({"group": shown(call, new)}, 201)


def put(state: State, edit: Edit, group: Group) -> None:
    if state.name_taken(group):
        raise Conflict(f"Conflict occurred attempting to store group - a group named {group.name!r} exists.")
    if state.get(Domain, group.domain_id) is None:
        raise BadRequest(f"Could not find domain: {group.domain_id}.")
    edit.put(group)


async def update(call: Call) -> Response:
    call.authorize("update_group")
    id_ = call.param("group_id")
    wanted = await call.member("group")
    body.same_id(wanted, id_)

    def decide(state: State, edit: Edit) -> Group:
        old = existing(state, id_)
        if wanted.get("domain_id", old.domain_id) != old.domain_id:
            raise BadRequest("'domain_id' of a group cannot be changed.")
        new = replace(
            old,
            name=body.name_of(wanted, old.name, most=64),
            description=body.description(wanted, old.description),
            extra=body.rest(wanted, _KNOWN, old.extra),
        )
        put(state, edit, new)
        return new

    return json_response({"group": shown(call, await call.change(decide))})


async def delete(call: Call) -> Response:
    call.authorize("delete_group")
    id_ = call.param("group_id")
    await call.change(lambda state, edit: edit.delete(existing(state, id_)))
    return empty(204)


async def users(call: Call) -> Response:
    from kilonova.identity.resources.users import shown as user_shown

    id_ = call.param("group_id")
    call.authorize("list_users_in_group", **_target(call.state, id_))
    existing(call.state, id_)
    found = (call.state.get(User, each) for each in sorted(call.state.members_of(id_)))
    rows = [user_shown(call, each) for each in found if each is not None]
    return collection(call, "users", rows, ("name", "enabled"))


def _membership(state: State, group_id: str, user_id: str) -> Membership:
    existing(state, group_id)
    if state.get(User, user_id) is None:
        raise NotFound(f"Could not find user: {user_id[:64]}.")
    return Membership(group_id=group_id, user_id=user_id)


async def check(call: Call) -> Response:
    group_id, user_id = call.param("group_id"), call.param("user_id")
    call.authorize("check_user_in_group", **_target(call.state, group_id), user_id=user_id)
    _membership(call.state, group_id, user_id)
    if user_id not in call.state.members_of(group_id):
        raise NotFound("The user is not in the group.")
    return empty(204)


async def add(call: Call) -> Response:
    call.authorize("add_user_to_group")
    group_id, user_id = call.param("group_id"), call.param("user_id")
    await call.change(lambda state, edit: edit.put(_membership(state, group_id, user_id)))
    return empty(204)


async def remove(call: Call) -> Response:
    call.authorize("remove_user_from_group")
    group_id, user_id = call.param("group_id"), call.param("user_id")

    def decide(state: State, edit: Edit) -> None:
        member = _membership(state, group_id, user_id)
        if user_id not in state.members_of(group_id):
            raise NotFound("The user is not in the group.")
        edit.delete(member)

    await call.change(decide)
    return empty(204)


def routes() -> list[Route]:
    one, member = "/groups/{group_id}", "/groups/{group_id}/users/{user_id}"
    return [
        route("GET", "/groups", listing),
        route("POST", "/groups", create),
        *(route(method, one, show) for method in ("GET", "HEAD")),
        route("PATCH", one, update),
        route("DELETE", one, delete),
        route("GET", f"{one}/users", users),
        *(route(method, member, check) for method in ("GET", "HEAD")),
        route("PUT", member, add),
        route("DELETE", member, remove),
    ]
