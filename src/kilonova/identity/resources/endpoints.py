"""/v3/regions, /v3/services, /v3/endpoints: the catalog. What the configuration provides cannot be changed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

from msgspec.structs import replace

from kilonova.http.errors import BadRequest, Conflict, Forbidden, NotFound
from kilonova.http.message import Response, empty, json_response
from kilonova.http.routing import Route
from kilonova.identity.catalog import INTERFACES, bad_template
from kilonova.identity.directory import Edit
from kilonova.identity.records import Endpoint, Record, Region, Service, new_id
from kilonova.identity.resources import body
from kilonova.identity.resources.call import Call, route
from kilonova.identity.resources.listing import collection
from kilonova.identity.state import State

R = TypeVar("R", bound=Record)
_BUILT_IN = "This entry of the catalog comes from the configuration; change it there."


def _found(rows: Iterable[R], id_: str) -> R:
    for each in rows:
        if each.key == id_:
            return each
    raise NotFound(f"Could not find {id_[:64]} in the catalog.")


def _own(call: Call, state: State, kind: type[R], id_: str) -> R:
    """One that an admin has added. Raises Forbidden for built-in ones, NotFound."""
    catalog = call.identity.catalog
    if id_ in catalog.region_ids | catalog.service_ids | catalog.endpoint_ids:
        raise Forbidden(_BUILT_IN)
    return _found(state.values(kind), id_)


def _regions(call: Call, state: State) -> list[Region]:
    return call.identity.catalog.regions(state)


def region_shown(call: Call, each: Region) -> dict[str, Any]:
    return {
        **each.extra, "id": each.id, "description": each.description, "parent_region_id": each.parent_region_id,
        "links": {"self": f"{call.base}/regions/{each.id}"},
    }  # fmt: skip


async def region_listing(call: Call) -> Response:
    call.authorize("list_region")
    rows = [region_shown(call, each) for each in _regions(call, call.state)]
    return collection(call, "regions", rows, ("parent_region_id", "id"))


async def region_show(call: Call) -> Response:
    call.authorize("get_region")
    return json_response({"region": region_shown(call, _found(_regions(call, call.state), call.param("region_id")))})


async def region_put(call: Call) -> Response:
    """POST /regions and PUT /regions/{id}."""
    call.authorize("create_region")
    wanted = await call.member("region")
    given = body.text(wanted, "id", None, most=191)
    id_ = call.request.params.get("region_id") or given or new_id()
    if given not in (None, "", id_) or len(id_) > 191:
        raise BadRequest("Invalid region id: at most 191 characters, and the same in URL and body.")
    new = Region(
        id=id_,
        description=body.description(wanted),
        parent_region_id=body.text(wanted, "parent_region_id", None, most=191),
        extra=body.rest(wanted, ("description", "parent_region_id")),
    )

    def decide(state: State, edit: Edit) -> None:
        if any(each.id == id_ for each in _regions(call, state)):
            raise Conflict(f"Conflict occurred attempting to store region - {id_!r} exists.")
        _put_region(call, state, edit, new)

    await call.change(decide)
    return json_response({"region": region_shown(call, new)}, 201)


def _put_region(call: Call, state: State, edit: Edit, new: Region) -> None:
    parents = {each.id: each.parent_region_id for each in _regions(call, state)} | {new.id: new.parent_region_id}
    at, steps = new.parent_region_id, 0
    while at is not None:
        if at not in parents:
            raise NotFound(f"Could not find region: {at[:64]}.")
        if at == new.id or steps > len(parents):
            raise BadRequest("A region may not be its own ancestor.")
        at, steps = parents[at], steps + 1
    edit.put(new)


async def region_update(call: Call) -> Response:
    call.authorize("update_region")
    id_ = call.param("region_id")
    wanted = await call.member("region")
    body.same_id(wanted, id_)

    def decide(state: State, edit: Edit) -> Region:
        old = _own(call, state, Region, id_)
        new = replace(
            old,
            description=body.description(wanted, old.description),
            parent_region_id=body.text(
                {"parent_region_id": old.parent_region_id, **wanted}, "parent_region_id", None, most=191
            ),
            extra=body.rest(wanted, ("description", "parent_region_id"), old.extra),
        )
        _put_region(call, state, edit, new)
        return new

    return json_response({"region": region_shown(call, await call.change(decide))})


async def region_delete(call: Call) -> Response:
    call.authorize("delete_region")
    id_ = call.param("region_id")

    def decide(state: State, edit: Edit) -> None:
        region = _own(call, state, Region, id_)
        if state.subregions(id_) or any(each.region_id == id_ for each in state.values(Endpoint)):
            raise Conflict("The region still has endpoints or regions in it.")
        edit.delete(region)

    await call.change(decide)
    return empty(204)


def service_shown(call: Call, each: Service) -> dict[str, Any]:
    return {
        **each.extra, "id": each.id, "type": each.type, "name": each.name, "description": each.description,
        "enabled": each.enabled, "links": {"self": f"{call.base}/services/{each.id}"},
    }  # fmt: skip


_SERVICE = ("type", "name", "description", "enabled")


async def service_listing(call: Call) -> Response:
    call.authorize("list_service")
    rows = [service_shown(call, each) for each in call.identity.catalog.services(call.state)]
    return collection(call, "services", rows, ("name", "type", "id"))


async def service_show(call: Call) -> Response:
    call.authorize("get_service")
    found = _found(call.identity.catalog.services(call.state), call.param("service_id"))
    return json_response({"service": service_shown(call, found)})


async def service_create(call: Call) -> Response:
    call.authorize("create_service")
    wanted = await call.member("service")
    new = Service(
        id=new_id(),
        type=body.text(wanted, "type", least=1),
        name=body.text(wanted, "name", None) or "",
        description=body.description(wanted),
        enabled=body.flag(wanted, "enabled", True),
        extra=body.rest(wanted, _SERVICE),
    )
    await call.change(lambda state, edit: edit.put(new))
    return json_response({"service": service_shown(call, new)}, 201)


async def service_update(call: Call) -> Response:
    call.authorize("update_service")
    id_ = call.param("service_id")
    wanted = await call.member("service")
    body.same_id(wanted, id_)

    def decide(state: State, edit: Edit) -> Service:
        old = _own(call, state, Service, id_)
        new = replace(
            old,
            type=body.text(wanted, "type", old.type, least=1),
            name=body.text(wanted, "name", old.name),
            description=body.description(wanted, old.description),
            enabled=body.flag(wanted, "enabled", old.enabled),
            extra=body.rest(wanted, _SERVICE, old.extra),
        )
        edit.put(new)
        return new

    return json_response({"service": service_shown(call, await call.change(decide))})


async def service_delete(call: Call) -> Response:
    call.authorize("delete_service")
    id_ = call.param("service_id")
    await call.change(lambda state, edit: edit.delete(_own(call, state, Service, id_)))
    return empty(204)


_ENDPOINT = ("service_id", "interface", "url", "region_id", "region", "enabled", "name")


def endpoint_shown(call: Call, each: Endpoint) -> dict[str, Any]:
    return {
        **each.extra, "id": each.id, "service_id": each.service_id, "interface": each.interface, "url": each.url,
        "region_id": each.region_id, "region": each.region_id, "enabled": each.enabled,
        "links": {"self": f"{call.base}/endpoints/{each.id}"},
    }  # fmt: skip


def _endpoints(call: Call, state: State) -> list[Endpoint]:
    return call.identity.catalog.endpoints(state, call.request.host_url)


async def endpoint_listing(call: Call) -> Response:
    call.authorize("list_endpoint")
    rows = [endpoint_shown(call, each) for each in _endpoints(call, call.state)]
    return collection(call, "endpoints", rows, ("interface", "service_id", "region_id", "region"))


async def endpoint_show(call: Call) -> Response:
    call.authorize("get_endpoint")
    found = _found(_endpoints(call, call.state), call.param("endpoint_id"))
    return json_response({"endpoint": endpoint_shown(call, found)})


def _endpoint_of(wanted: dict[str, Any], old: Endpoint | None, id_: str) -> Endpoint:
    before = {"service_id": old.service_id, "interface": old.interface, "url": old.url} if old is not None else {}
    merged = {**before, **wanted}
    region = merged.get("region_id", merged.get("region", old.region_id if old is not None else None))
    new = Endpoint(
        id=id_,
        service_id=body.text(merged, "service_id", most=64),
        interface=body.text(merged, "interface"),
        url=body.text(merged, "url", least=1, most=2048),
        region_id=body.text({"region_id": region}, "region_id", None, most=191),
        enabled=body.flag(merged, "enabled", old.enabled if old is not None else True),
        extra=body.rest(wanted, _ENDPOINT, old.extra if old is not None else None),
    )
    if new.interface not in INTERFACES:
        raise BadRequest(f"Invalid input for 'interface': one of {', '.join(INTERFACES)}.")
    if bad_template(new.url):
        raise BadRequest("Invalid input for 'url': only $(project_id)s and $(user_id)s are replaced.")
    return new


def _put_endpoint(call: Call, state: State, edit: Edit, new: Endpoint) -> None:
    if not any(each.id == new.service_id for each in call.identity.catalog.services(state)):
        raise BadRequest(f"Could not find service: {new.service_id}.")
    if new.region_id is not None and not any(each.id == new.region_id for each in _regions(call, state)):
        edit.put(Region(id=new.region_id))
    edit.put(new)


async def endpoint_create(call: Call) -> Response:
    call.authorize("create_endpoint")
    new = _endpoint_of(await call.member("endpoint"), None, new_id())
    await call.change(lambda state, edit: _put_endpoint(call, state, edit, new))
    return json_response({"endpoint": endpoint_shown(call, new)}, 201)


async def endpoint_update(call: Call) -> Response:
    call.authorize("update_endpoint")
    id_ = call.param("endpoint_id")
    wanted = await call.member("endpoint")
    body.same_id(wanted, id_)

    def decide(state: State, edit: Edit) -> Endpoint:
        new = _endpoint_of(wanted, _own(call, state, Endpoint, id_), id_)
        _put_endpoint(call, state, edit, new)
        return new

    return json_response({"endpoint": endpoint_shown(call, await call.change(decide))})


async def endpoint_delete(call: Call) -> Response:
    call.authorize("delete_endpoint")
    id_ = call.param("endpoint_id")
    await call.change(lambda state, edit: edit.delete(_own(call, state, Endpoint, id_)))
    return empty(204)


def routes() -> list[Route]:
    return [
        route("GET", "/regions", region_listing),
        route("POST", "/regions", region_put),
        route("PUT", "/regions/{region_id}", region_put),
        route("GET", "/regions/{region_id}", region_show),
        route("PATCH", "/regions/{region_id}", region_update),
        route("DELETE", "/regions/{region_id}", region_delete),
        route("GET", "/services", service_listing),
        route("POST", "/services", service_create),
        route("GET", "/services/{service_id}", service_show),
        route("PATCH", "/services/{service_id}", service_update),
        route("DELETE", "/services/{service_id}", service_delete),
        route("GET", "/endpoints", endpoint_listing),
        route("POST", "/endpoints", endpoint_create),
        route("GET", "/endpoints/{endpoint_id}", endpoint_show),
        route("PATCH", "/endpoints/{endpoint_id}", endpoint_update),
        route("DELETE", "/endpoints/{endpoint_id}", endpoint_delete),
    ]
