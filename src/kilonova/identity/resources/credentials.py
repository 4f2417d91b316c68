"""/v3/credentials, and EC2 keys under /v3/users/{id}/credentials/OS-EC2: secrets kept sealed for their users."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
from msgspec.structs import replace

from kilonova.http.errors import BadRequest, Conflict, Forbidden, NotFound, Unavailable
from kilonova.http.message import Response, empty, json_response
from kilonova.http.routing import Route
from kilonova.identity.directory import Edit
from kilonova.identity.records import Credential, Project, new_id
from kilonova.identity.resources import body
from kilonova.identity.resources.application_credentials import refuse_restricted
from kilonova.identity.resources.call import Call, route
from kilonova.identity.resources.listing import collection
from kilonova.identity.resources.projects import existing as existing_project
from kilonova.identity.resources.users import existing as existing_user
from kilonova.identity.resources.users import target
from kilonova.identity.seal import Seal, SealBroken
from kilonova.identity.state import State

_BLOB = 32_768


def context(id_: str) -> str:
    """What a sealed blob is bound to."""
    return f"credential:{id_}"


def ec2_id(access: str) -> str:
    """The id of the credential of an EC2 access key, as Keystone makes it."""
    return hashlib.sha256(access.encode()).hexdigest()


def _blob(seal: Seal, each: Credential) -> str:
    try:
        return seal.open(each.sealed, context(each.id))
    except SealBroken as error:
        raise Unavailable(f"The credential cannot be opened: {error}.") from None


def shown(call: Call, each: Credential) -> dict[str, Any]:
    return {
        "id": each.id, "type": each.type, "user_id": each.user_id, "project_id": each.project_id,
        "blob": _blob(call.identity.seal, each), "links": {"self": f"{call.base}/credentials/{each.id}"},
    }  # fmt: skip


def existing(state: State, id_: str) -> Credential:
    """Raises NotFound."""
    found = state.get(Credential, id_)
    if found is None:
        raise NotFound(f"Could not find credential: {id_[:64]}.")
    return found


def _target(state: State, id_: str) -> dict[str, str | None]:
    found = state.get(Credential, id_)
    return {"user_id": found.user_id} if found else {}


async def listing(call: Call) -> Response:
    rows = [
        shown(call, each)
        for each in call.state.values(Credential)
        if call.allows("get_credential", user_id=each.user_id)
    ]
    return collection(call, "credentials", rows, ("user_id", "type"))


async def show(call: Call) -> Response:
    id_ = call.param("credential_id")
    call.authorize("get_credential", **_target(call.state, id_))
    return json_response({"credential": shown(call, existing(call.state, id_))})


def _check_project(call: Call, state: State, user_id: str, project_id: str | None) -> None:
    """A key acts on its project as its user: only where the user has a role."""
    existing_user(state, user_id)
    if project_id is None:
        return
    if state.get(Project, project_id) is None:
        raise NotFound(f"Could not find project: {project_id[:64]}.")
    if not state.roles(user_id, project_id) and "admin" not in call.creds.roles:
        raise Forbidden("The user has no role on the project.")
    bound = call.bearer is not None and call.bearer.appcred_id
    if bound and call.creds.project_id != project_id:
        raise Forbidden("An application credential acts on its own project only.")


async def create(call: Call) -> Response:
    wanted = await call.member("credential")
    user_id = body.text(wanted, "user_id", None, most=64) or call.creds.user_id
    call.authorize("create_credential", user_id=user_id)
    refuse_restricted(call)
    kind, blob = body.text(wanted, "type", least=1), body.text(wanted, "blob", most=_BLOB)
    project_id = body.text(wanted, "project_id", None, most=64)
    id_ = new_id()
    if kind == "ec2":
        if project_id is None:
            raise BadRequest("'project_id' is a required property of ec2 credentials.")
        id_ = ec2_id(_access(blob))
    new = Credential(
        id=id_, type=kind, user_id=user_id, project_id=project_id, sealed=call.identity.seal.seal(blob, context(id_))
    )
    await call.change(lambda state, edit: _put(call, state, edit, new))
    return json_response({"credential": shown(call, new)}, 201)


def _access(blob: str) -> str:
    try:
        found = msgspec.json.decode(blob)
    except msgspec.DecodeError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(found.get(key), str) for key in ("access", "secret")):
        raise BadRequest("Invalid blob: an ec2 credential is JSON with access and secret.")
    access: str = found["access"]
    return access


def _put(call: Call, state: State, edit: Edit, new: Credential) -> None:
    if state.get(Credential, new.id) is not None:
        raise Conflict("Conflict occurred attempting to store credential - the access key exists.")
    _check_project(call, state, new.user_id, new.project_id)
    edit.put(new)


async def update(call: Call) -> Response:
    id_ = call.param("credential_id")
    call.authorize("update_credential", **_target(call.state, id_))
    refuse_restricted(call)
    wanted = await call.member("credential")
    body.same_id(wanted, id_)
    kind = body.text(wanted, "type", None, least=1)
    blob = body.text(wanted, "blob", None, most=_BLOB)
    project_id = body.text(wanted, "project_id", None, most=64)
    user_id = body.text(wanted, "user_id", None, most=64)

    def decide(state: State, edit: Edit) -> Credential:
        old = existing(state, id_)
        retyped = kind not in (None, old.type) and "ec2" in (kind, old.type)
        if user_id not in (None, old.user_id) or retyped:
            raise Forbidden("The owner of a credential and the type of an ec2 one cannot be changed.")
        if old.type == "ec2" and blob is not None and ec2_id(_access(blob)) != id_:
            raise BadRequest("The access key of an ec2 credential cannot be changed.")
        new = replace(old, type=kind or old.type, project_id=project_id or old.project_id)
        if blob is not None:
            new = replace(new, sealed=call.identity.seal.seal(blob, context(id_)))
        _check_project(call, state, new.user_id, new.project_id)
        edit.put(new)
        return new

    return json_response({"credential": shown(call, await call.change(decide))})


async def delete(call: Call) -> Response:
    id_ = call.param("credential_id")
    call.authorize("delete_credential", **_target(call.state, id_))
    refuse_restricted(call)
    await call.change(lambda state, edit: edit.delete(existing(state, id_)))
    return empty(204)


# EC2 keys


def _ec2_shown(call: Call, each: Credential) -> dict[str, Any]:
    keys = msgspec.json.decode(_blob(call.identity.seal, each))
    access = keys["access"]
    return {
        "access": access, "secret": keys["secret"], "user_id": each.user_id, "tenant_id": each.project_id,
        "trust_id": None, "links": {"self": f"{call.base}/users/{each.user_id}/credentials/OS-EC2/{access}"},
    }  # fmt: skip


def _ec2_existing(call: Call, state: State) -> Credential:
    access = call.param("access")
    found = state.get(Credential, ec2_id(access))
    if found is None or found.type != "ec2" or found.user_id != call.param("user_id"):
        raise NotFound(f"Could not find credential: {access[:64]}.")
    return found


async def ec2_listing(call: Call) -> Response:
    id_ = call.param("user_id")
    call.authorize("get_credential", **target(call.state, id_))
    existing_user(call.state, id_)
    own = (each for each in call.state.values(Credential) if each.user_id == id_ and each.type == "ec2")
    return collection(call, "credentials", [_ec2_shown(call, each) for each in own])


async def ec2_show(call: Call) -> Response:
    call.authorize("get_credential", **target(call.state, call.param("user_id")))
    return json_response({"credential": _ec2_shown(call, _ec2_existing(call, call.state))})


async def ec2_create(call: Call) -> Response:
    user_id = call.param("user_id")
    call.authorize("create_credential", **target(call.state, user_id))
    refuse_restricted(call)
    wanted = body.mapping(await call.request.json(), "the body")
    project_id = body.text(wanted, "tenant_id", most=64)
    existing_project(call.state, project_id)
    access = new_id()
    blob = msgspec.json.encode({"access": access, "secret": new_id(), "trust_id": None}).decode()
    id_ = ec2_id(access)
    new = Credential(
        id=id_, type="ec2", user_id=user_id, project_id=project_id, sealed=call.identity.seal.seal(blob, context(id_))
    )
    await call.change(lambda state, edit: _put(call, state, edit, new))
    return json_response({"credential": _ec2_shown(call, new)}, 201)


async def ec2_delete(call: Call) -> Response:
    call.authorize("delete_credential", **target(call.state, call.param("user_id")))
    refuse_restricted(call)
    await call.change(lambda state, edit: edit.delete(_ec2_existing(call, state)))
    return empty(204)


def routes() -> list[Route]:
    one, ec2 = "/credentials/{credential_id}", "/users/{user_id}/credentials/OS-EC2"
    return [
        route("GET", "/credentials", listing),
        route("POST", "/credentials", create),
        route("GET", one, show),
        route("PATCH", one, update),
        route("DELETE", one, delete),
        route("GET", ec2, ec2_listing),
        route("POST", ec2, ec2_create),
        route("GET", f"{ec2}/{{access}}", ec2_show),
        route("DELETE", f"{ec2}/{{access}}", ec2_delete),
    ]
