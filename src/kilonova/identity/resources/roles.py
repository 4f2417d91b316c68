"""/v3/roles and what they imply."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from kilonova.http.errors import BadRequest, Conflict, Forbidden, NotFound
from kilonova.http.message import Response, empty, json_response
from kilonova.http.routing import Route
from kilonova.identity.directory import Edit
from kilonova.identity.records import Domain, Implication, Role, new_id
from kilonova.identity.resources import body
from kilonova.identity.resources.call import Call, route
from kilonova.identity.resources.listing import collection
from kilonova.identity.state import State

_KNOWN = ("name", "domain_id", "description", "options")


def shown(call: Call, role: Role) -> dict[str, Any]:
    return {**role.extra, **brief(role), "links": {"self": f"{call.base}/roles/{role.id}"}}


def brief(role: Role) -> dict[str, Any]:
    """A role as other things show it."""
    return {
        "id": role.id, "name": role.name, "domain_id": role.domain_id, "description": role.description,
        "options": {"immutable": True} if role.immutable else {},
    }  # fmt: skip


def existing(state: State, id_: str) -> Role:
    """Raises NotFound."""
    found = state.get(Role, id_)
    if found is None:
        raise NotFound(f"Could not find role: {id_[:64]}.")
    return found


def mutable(state: State, id_: str) -> Role:
    """Raises NotFound; Forbidden for the roles that policies rest on."""
    found = existing(state, id_)
    if found.immutable:
        raise Forbidden(f"Cannot modify or delete the role {found.name!r}: it is immutable.")
    return found


async def listing(call: Call) -> Response:
    call.authorize("list_role")
    wanted = call.request.query_one("domain_id")
    rows = [shown(call, each) for each in call.state.values(Role) if (each.domain_id or "") == (wanted or "")]
    return collection(call, "roles", rows, ("name", "id"))


async def show(call: Call) -> Response:
    call.authorize("get_role")
    return json_response({"role": shown(call, existing(call.state, call.param("role_id")))})


async def create(call: Call) -> Response:
    call.authorize("create_role")
    wanted = await call.member("role")
    new = Role(
        id=new_id(),
        name=body.name_of(wanted),
        domain_id=body.text(wanted, "domain_id", None, most=64),
        description=body.text(wanted, "description", None, most=4096),
        extra=body.rest(wanted, _KNOWN),
    )
    await call.change(lambda state, edit: put(state, edit, new))
    return json_response({"role": shown(call, new)}, 201)


def put(state: State, edit: Edit, role: Role) -> None:
    if state.name_taken(role):
        raise Conflict(f"Conflict occurred attempting to store role - a role named {role.name!r} exists.")
    if role.domain_id is not None and state.get(Domain, role.domain_id) is None:
        raise BadRequest(f"Could not find domain: {role.domain_id}.")
    edit.put(role)


async def update(call: Call) -> Response:
    call.authorize("update_role")
    id_ = call.param("role_id")
    wanted = await call.member("role")
    body.same_id(wanted, id_)

    def decide(state: State, edit: Edit) -> Role:
        old = mutable(state, id_)
        if wanted.get("domain_id", old.domain_id) != old.domain_id:
            raise BadRequest("'domain_id' of a role cannot be changed.")
        new = replace(
            old,
            name=body.name_of(wanted, old.name),
            description=body.text({"description": old.description, **wanted}, "description", None, most=4096),
            extra=body.rest(wanted, _KNOWN, old.extra),
        )
        put(state, edit, new)
        return new

    return json_response({"role": shown(call, await call.change(decide))})


async def delete(call: Call) -> Response:
    call.authorize("delete_role")
    id_ = call.param("role_id")
    await call.change(lambda state, edit: edit.delete(mutable(state, id_)))
    return empty(204)


# What roles imply


def _brief(call: Call, role: Role) -> dict[str, Any]:
    return {"id": role.id, "name": role.name, "links": {"self": f"{call.base}/roles/{role.id}"}}


def _implies(call: Call, prior: Role) -> list[dict[str, Any]]:
    state = call.state
    found = (state.get(Role, each.implied) for each in state.values(Implication) if each.prior == prior.id)
    return [_brief(call, each) for each in found if each is not None]


async def inferences(call: Call) -> Response:
    call.authorize("list_role_inference_rules")
    state = call.state
    priors = (state.get(Role, id_) for id_ in sorted({each.prior for each in state.values(Implication)}))
    rules = [{"prior_role": _brief(call, each), "implies": _implies(call, each)} for each in priors if each is not None]
    return json_response({"role_inferences": rules})


async def implied_list(call: Call) -> Response:
    call.authorize("list_implied_role")
    prior = existing(call.state, call.param("role_id"))
    rule = {"prior_role": _brief(call, prior), "implies": _implies(call, prior)}
    return json_response({"role_inference": rule, "links": {"self": f"{call.base}/roles/{prior.id}/implies"}})


def _pair(call: Call, state: State) -> tuple[Role, Role]:
    return existing(state, call.param("role_id")), existing(state, call.param("implied_id"))


def _inference(call: Call, prior: Role, implied: Role, status: int) -> Response:
    rule = {"prior_role": _brief(call, prior), "implies": _brief(call, implied)}
    links = {"self": f"{call.base}/roles/{prior.id}/implies/{implied.id}"}
    return json_response({"role_inference": rule, "links": links}, status)


def _known(state: State, prior: Role, implied: Role) -> Implication:
    found = state.get(Implication, f"{prior.id}:{implied.id}")
    if found is None:
        raise NotFound(f"{prior.id} does not imply {implied.id}.")
    return found


async def implied_show(call: Call) -> Response:
    call.authorize("get_implied_role")
    prior, implied = _pair(call, call.state)
    _known(call.state, prior, implied)
    return _inference(call, prior, implied, 200)


async def implied_put(call: Call) -> Response:
    call.authorize("create_implied_role")

    def decide(state: State, edit: Edit) -> tuple[Role, Role]:
        prior, implied = _pair(call, state)
        if prior.id in state.implied(implied.id):
            raise Forbidden("A role may not imply itself, not even through others.")
        if implied.name.lower() == "admin":
            raise Forbidden("The role admin cannot be implied.")
        if implied.domain_id not in (None, prior.domain_id) and prior.domain_id is not None:
            raise Forbidden("A role of a domain cannot imply one of another domain.")
        edit.put(Implication(prior=prior.id, implied=implied.id))
        return prior, implied

    return _inference(call, *await call.change(decide), 201)


async def implied_delete(call: Call) -> Response:
    call.authorize("delete_implied_role")
    await call.change(lambda state, edit: edit.delete(_known(state, *_pair(call, state))))
    return empty(204)


def routes() -> list[Route]:
    one, implied = "/roles/{role_id}", "/roles/{role_id}/implies/{implied_id}"
    return [
        route("GET", "/roles", listing),
        route("POST", "/roles", create),
        *(route(method, one, show) for method in ("GET", "HEAD")),
        route("PATCH", one, update),
        route("DELETE", one, delete),
        route("GET", f"{one}/implies", implied_list),
        *(route(method, implied, implied_show) for method in ("GET", "HEAD")),
        route("PUT", implied, implied_put),
        route("DELETE", implied, implied_delete),
        route("GET", "/role_inferences", inferences),
    ]
