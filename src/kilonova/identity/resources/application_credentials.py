"""/v3/users/{id}/application_credentials: a user's keys for programs, with some of the user's roles."""

from __future__ import annotations

from typing import Any

from kilonova.http.errors import BadRequest, Conflict, Forbidden, NotFound, NotImplementedHere
from kilonova.http.message import Response, empty, json_response
from kilonova.http.routing import Route
from kilonova.identity.directory import Edit
from kilonova.identity.passwords import MAX_LENGTH, made, new_secret
from kilonova.identity.records import ApplicationCredential, Project, Role, new_id
from kilonova.identity.resources import body
from kilonova.identity.resources.call import Call, route
from kilonova.identity.resources.listing import collection
from kilonova.identity.resources.roles import brief
from kilonova.identity.resources.users import existing as existing_user
from kilonova.identity.resources.users import target
from kilonova.identity.state import State
from kilonova.identity.timestamps import parsed, spelled


def shown(call: Call, each: ApplicationCredential) -> dict[str, Any]:
    roles = (call.state.get(Role, id_) for id_ in each.roles)
    return {
        "id": each.id, "name": each.name, "description": each.description, "project_id": each.project_id,
        "user_id": each.user_id, "unrestricted": each.unrestricted, "system": None,
        "roles": [brief(role) for role in roles if role is not None],
        "expires_at": spelled(each.expires_at).removesuffix("Z") if each.expires_at is not None else None,
        "links": {"self": f"{call.base}/users/{each.user_id}/application_credentials/{each.id}"},
    }  # fmt: skip


def refuse_restricted(call: Call) -> None:
    """A restricted application credential may not make more of its kind. Raises Forbidden."""
    assert call.bearer is not None
    if not call.bearer.appcred_id:
        return
    own = call.state.get(ApplicationCredential, call.bearer.appcred_id)
    if own is None or not own.unrestricted:
        raise Forbidden("A restricted application credential may not manage credentials.")


def existing(call: Call, state: State) -> ApplicationCredential:
    """Raises NotFound."""
    id_ = call.param("appcred_id")
    found = state.get(ApplicationCredential, id_)
    if found is None or found.user_id != call.param("user_id"):
        raise NotFound(f"Could not find Application Credential: {id_[:64]}.")
    return found


async def listing(call: Call) -> Response:
    id_ = call.param("user_id")
    call.authorize("list_application_credentials", **target(call.state, id_))
    existing_user(call.state, id_)
    rows = [shown(call, each) for each in call.state.values(ApplicationCredential) if each.user_id == id_]
    return collection(call, "application_credentials", rows, ("name",))


async def show(call: Call) -> Response:
    call.authorize("get_application_credential", **target(call.state, call.param("user_id")))
    return json_response({"application_credential": shown(call, existing(call, call.state))})


def _roles(call: Call, wanted: dict[str, Any]) -> tuple[str, ...]:
    """Ids of the roles asked for, all of them the caller's own now; without any, all of the caller's."""
    state, creds = call.state, call.creds
    assert creds.project_id is not None
    own = {
        role.id: role
        for id_ in state.roles(creds.user_id, creds.project_id)
        if (role := state.get(Role, id_)) is not None and role.name.lower() in creds.roles
    }
    if not wanted.get("roles"):
        return tuple(sorted(own))
    found = []
    for each in body.listing(wanted, "roles", most=100):
        asked = body.mapping(each, "roles")
        if "id" in asked:
            role = state.get(Role, body.text(asked, "id", most=64))
        else:
            role = state.named(Role, body.name_of(asked), body.text(asked, "domain_id", None, most=64) or "")
        if role is None or role.id not in own:
            raise BadRequest("Invalid application credential: a role that you do not have on this project.")
        found.append(role.id)
    return tuple(dict.fromkeys(found))


async def create(call: Call) -> Response:
    user_id, creds = call.param("user_id"), call.creds
    call.authorize("create_application_credential", **target(call.state, user_id))
    refuse_restricted(call)
    if creds.project_id is None or creds.user_id != user_id:
        raise Forbidden("Application credentials are made by the user, with a token of the project.")
    wanted = await call.member("application_credential")
    if wanted.get("access_rules"):
        raise NotImplementedHere("Access rules need a real Keystone; configure [keystone_authtoken].")
    expires = body.text(wanted, "expires_at", None, most=64)
    ends = parsed(expires) if expires else None
    if expires and (ends is None or ends <= call.now):
        raise BadRequest("Invalid input for 'expires_at': it must be an ISO 8601 time to come.")
    chosen = body.text(wanted, "secret", None, most=MAX_LENGTH)
    name, roles = body.name_of(wanted), _roles(call, wanted)
    secret = chosen or new_secret()
    new = ApplicationCredential(
        id=new_id(),
        name=name,
        user_id=user_id,
        project_id=creds.project_id,
        roles=roles,
        secret_hash=await call.identity.passwords.hash(secret) if chosen else made(secret),
        description=body.text(wanted, "description", None, most=4096),
        expires_at=ends,
        unrestricted=body.flag(wanted, "unrestricted", False),
        created_at=call.now,
    )
    await call.change(lambda state, edit: _put(state, edit, new))
    return json_response({"application_credential": {**shown(call, new), "secret": secret}}, 201)


def _put(state: State, edit: Edit, new: ApplicationCredential) -> None:
    existing_user(state, new.user_id)
    if state.get(Project, new.project_id) is None:
        raise NotFound("The project is gone.")
    if state.name_taken(new):
        raise Conflict(f"Conflict occurred attempting to store application_credential - {new.name!r} exists.")
    edit.put(new)


async def delete(call: Call) -> Response:
    call.authorize("delete_application_credential", **target(call.state, call.param("user_id")))
    refuse_restricted(call)
    await call.change(lambda state, edit: edit.delete(existing(call, state)))
    return empty(204)


async def access_rules(call: Call) -> Response:
    """There are none here, ever."""
    call.authorize("list_application_credentials", **target(call.state, call.param("user_id")))
    return collection(call, "access_rules", [])


def routes() -> list[Route]:
    base = "/users/{user_id}/application_credentials"
    return [
        route("GET", base, listing),
        route("POST", base, create),
        *(route(method, f"{base}/{{appcred_id}}", show) for method in ("GET", "HEAD")),
        route("DELETE", f"{base}/{{appcred_id}}", delete),
        route("GET", "/users/{user_id}/access_rules", access_rules),
    ]
