"""/v3/registered_limits and /v3/limits: numbers that services ask for; the flat model."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from kilonova.http.errors import BadRequest, Conflict, Forbidden, NotFound
from kilonova.http.message import Response, empty, json_response
from kilonova.http.routing import Route
from kilonova.identity.directory import Edit
from kilonova.identity.records import Domain, Limit, Project, RegisteredLimit, new_id
from kilonova.identity.resources import body
from kilonova.identity.resources.call import Call, route
from kilonova.identity.resources.listing import collection
from kilonova.identity.state import State

_MODEL = {"name": "flat", "description": "Limits of projects do not depend on each other."}


def registered_shown(call: Call, each: RegisteredLimit) -> dict[str, Any]:
    return {
        "id": each.id, "service_id": each.service_id, "region_id": each.region_id, "resource_name": each.resource_name,
        "default_limit": each.default_limit, "description": each.description,
        "links": {"self": f"{call.base}/registered_limits/{each.id}"},
    }  # fmt: skip


def limit_shown(call: Call, each: Limit) -> dict[str, Any]:
    return {
        "id": each.id, "project_id": each.project_id, "domain_id": each.domain_id, "service_id": each.service_id,
        "region_id": each.region_id, "resource_name": each.resource_name, "resource_limit": each.resource_limit,
        "description": each.description, "links": {"self": f"{call.base}/limits/{each.id}"},
    }  # fmt: skip


def _same(one: RegisteredLimit | Limit, other: RegisteredLimit | Limit) -> bool:
    return all(getattr(one, name) == getattr(other, name) for name in ("service_id", "region_id", "resource_name"))


def _used(state: State, registered: RegisteredLimit) -> bool:
    return any(_same(registered, each) for _, each in state.all(Limit))


def _registered(state: State, id_: str) -> RegisteredLimit:
    found = state.get(RegisteredLimit, id_)
    if found is None:
        raise NotFound(f"Could not find registered limit: {id_[:64]}.")
    return found


def _check_service(call: Call, state: State, service_id: str, region_id: str | None) -> None:
    if not any(each.id == service_id for each in call.identity.catalog.services(state)):
        raise BadRequest(f"Could not find service: {service_id}.")
    if region_id is not None and not any(each.id == region_id for each in call.identity.catalog.regions(state)):
        raise BadRequest(f"Could not find region: {region_id}.")


async def registered_listing(call: Call) -> Response:
    rows = [registered_shown(call, each) for each in call.state.values(RegisteredLimit)]
    return collection(call, "registered_limits", rows, ("service_id", "region_id", "resource_name"))


async def registered_show(call: Call) -> Response:
    found = _registered(call.state, call.param("limit_id"))
    return json_response({"registered_limit": registered_shown(call, found)})


def _put_registered(call: Call, state: State, edit: Edit, new: RegisteredLimit) -> None:
    _check_service(call, state, new.service_id, new.region_id)
    others = [*state.values(RegisteredLimit), *(r for r in edit.writes.values() if isinstance(r, RegisteredLimit))]
    if any(_same(new, each) and each.id != new.id for each in others):
        raise Conflict(f"Conflict occurred attempting to store registered_limit - {new.resource_name!r} is registered.")
    edit.put(new)


async def registered_create(call: Call) -> Response:
    call.authorize("create_registered_limit")
    wanted = body.listing(body.mapping(await call.request.json(), "the body"), "registered_limits", most=200)
    items = [body.mapping(each, "registered_limits") for each in wanted]
    new = [
        RegisteredLimit(
            id=new_id(),
            service_id=body.text(each, "service_id", most=64),
            region_id=body.text(each, "region_id", None, most=191),
            resource_name=body.text(each, "resource_name", least=1),
            default_limit=body.number(each, "default_limit"),
            description=body.text(each, "description", None, most=4096),
        )
        for each in items
    ]

    def decide(state: State, edit: Edit) -> None:
        for each in new:
            _put_registered(call, state, edit, each)

    await call.change(decide)
    return json_response({"registered_limits": [registered_shown(call, each) for each in new]}, 201)


async def registered_update(call: Call) -> Response:
    call.authorize("update_registered_limit")
    id_ = call.param("limit_id")
    wanted = await call.member("registered_limit")

    def decide(state: State, edit: Edit) -> RegisteredLimit:
        old = _registered(state, id_)
        new = replace(
            old,
            service_id=body.text(wanted, "service_id", old.service_id, most=64),
            region_id=body.text({"region_id": old.region_id, **wanted}, "region_id", None, most=191),
            resource_name=body.text(wanted, "resource_name", old.resource_name, least=1),
            default_limit=body.number(wanted, "default_limit", old.default_limit),
            description=body.text({"description": old.description, **wanted}, "description", None, most=4096),
        )
        if not _same(old, new) and _used(state, old):
            raise Forbidden("The registered limit is in use: project limits rest on it.")
        _put_registered(call, state, edit, new)
        return new

    return json_response({"registered_limit": registered_shown(call, await call.change(decide))})


async def registered_delete(call: Call) -> Response:
    call.authorize("delete_registered_limit")
    id_ = call.param("limit_id")

    def decide(state: State, edit: Edit) -> None:
        found = _registered(state, id_)
        if _used(state, found):
            raise Forbidden("The registered limit is in use: project limits rest on it.")
        edit.delete(found)

    await call.change(decide)
    return empty(204)


def _visible(call: Call, each: Limit) -> bool:
    project = call.state.get(Project, each.project_id or "")
    of = project.domain_id if project is not None else each.domain_id
    return call.allows("get_limit", project_id=each.project_id, target_domain_id=of)


def _limit(state: State, id_: str) -> Limit:
    found = state.get(Limit, id_)
    if found is None:
        raise NotFound(f"Could not find limit: {id_[:64]}.")
    return found


async def limit_listing(call: Call) -> Response:
    rows = [limit_shown(call, each) for each in call.state.values(Limit) if _visible(call, each)]
    return collection(
        call, "limits", rows, ("service_id", "region_id", "resource_name", "project_id", "domain_id")
    )


async def limit_show(call: Call) -> Response:
    found = call.state.get(Limit, call.param("limit_id"))
    if found is None or not _visible(call, found):
        raise NotFound("Could not find limit.")
    return json_response({"limit": limit_shown(call, found)})


async def limit_create(call: Call) -> Response:
    call.authorize("create_limit")
    wanted = body.listing(body.mapping(await call.request.json(), "the body"), "limits", most=200)
    items = [body.mapping(each, "limits") for each in wanted]
    new = [
        Limit(
            id=new_id(),
            project_id=body.text(each, "project_id", None, most=64),
            domain_id=body.text(each, "domain_id", None, most=64),
            service_id=body.text(each, "service_id", most=64),
            region_id=body.text(each, "region_id", None, most=191),
            resource_name=body.text(each, "resource_name", least=1),
            resource_limit=body.number(each, "resource_limit"),
            description=body.text(each, "description", None, most=4096),
        )
        for each in items
    ]

    def decide(state: State, edit: Edit) -> None:
        for each in new:
            _put_limit(state, edit, each)

    await call.change(decide)
    return json_response({"limits": [limit_shown(call, each) for each in new]}, 201)


def _put_limit(state: State, edit: Edit, new: Limit) -> None:
    if (new.project_id is None) == (new.domain_id is None):
        raise BadRequest("A limit is of one project or of one domain.")
    owner = state.get(Project, new.project_id) if new.project_id else state.get(Domain, new.domain_id or "")
    if owner is None:
        raise BadRequest("Could not find the project or domain of the limit.")
    if not any(_same(new, each) for _, each in state.all(RegisteredLimit)):
        raise Forbidden(f"No limit is registered for {new.resource_name!r} of this service and region.")
    others = [*state.values(Limit), *(each for each in edit.writes.values() if isinstance(each, Limit))]
    owner_id = (new.project_id, new.domain_id)
    if any(_same(new, each) and owner_id == (each.project_id, each.domain_id) for each in others):
        raise Conflict("Conflict occurred attempting to store limit - there is one already.")
    edit.put(new)


async def limit_update(call: Call) -> Response:
    call.authorize("update_limit")
    id_ = call.param("limit_id")
    wanted = await call.member("limit")

    def decide(state: State, edit: Edit) -> Limit:
        old = _limit(state, id_)
        new = replace(
            old,
            resource_limit=body.number(wanted, "resource_limit", old.resource_limit),
            description=body.text({"description": old.description, **wanted}, "description", None, most=4096),
        )
        edit.put(new)
        return new

    return json_response({"limit": limit_shown(call, await call.change(decide))})


async def limit_delete(call: Call) -> Response:
    call.authorize("delete_limit")
    id_ = call.param("limit_id")
    await call.change(lambda state, edit: edit.delete(_limit(state, id_)))
    return empty(204)


async def model(call: Call) -> Response:
    return json_response({"model": _MODEL})


def routes() -> list[Route]:
    registered, limit = "/registered_limits/{limit_id}", "/limits/{limit_id}"
    return [
        route("GET", "/registered_limits", registered_listing),
        route("POST", "/registered_limits", registered_create),
        route("GET", registered, registered_show),
        route("PATCH", registered, registered_update),
        route("DELETE", registered, registered_delete),
        route("GET", "/limits", limit_listing),
        route("POST", "/limits", limit_create),
        route("GET", "/limits/model", model),
        route("GET", limit, limit_show),
        route("PATCH", limit, limit_update),
        route("DELETE", limit, limit_delete),
    ]
