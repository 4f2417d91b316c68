"""/v3/domains."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from kilonova.http.errors import Conflict, Forbidden, NotFound
from kilonova.http.message import Response, empty, json_response
from kilonova.http.routing import Route
from kilonova.identity.directory import Edit
from kilonova.identity.records import DEFAULT_DOMAIN, Domain, new_id
from kilonova.identity.resources import body
from kilonova.identity.resources.call import Call, route
from kilonova.identity.resources.listing import collection
from kilonova.identity.state import State

_KNOWN = ("name", "description", "enabled", "tags", "options")


def shown(call: Call, domain: Domain) -> dict[str, Any]:
    return {
        **domain.extra, "id": domain.id, "name": domain.name, "description": domain.description,
        "enabled": domain.enabled, "tags": list(domain.tags), "options": {},
        "links": {"self": f"{call.base}/domains/{domain.id}"},
    }  # fmt: skip


def existing(state: State, id_: str) -> Domain:
    """Raises NotFound."""
    found = state.get(Domain, id_)
    if found is None:
        raise NotFound(f"Could not find domain: {id_[:64]}.")
    return found


async def listing(call: Call) -> Response:
    only = call.only_domain("list_domains")
    rows = [shown(call, each) for each in call.state.values(Domain) if only in (None, each.id)]
    return collection(call, "domains", rows, ("name", "enabled", "id"))


async def show(call: Call) -> Response:
    id_ = call.param("domain_id")
    call.authorize("get_domain", target_domain_id=id_)
    return json_response({"domain": shown(call, existing(call.state, id_))})


async def create(call: Call) -> Response:
    call.authorize("create_domain")
    wanted = await call.member("domain")
    new = Domain(
        id=new_id(),
        name=body.name_of(wanted, most=64),
        description=body.description(wanted),
        enabled=body.flag(wanted, "enabled", True),
        tags=body.tags(body.listing(wanted, "tags", [])),
        extra=body.rest(wanted, _KNOWN),
    )
    await call.change(lambda state, edit: put(state, edit, new))
    return json_response({"domain": shown(call, new)}, 201)


def put(state: State, edit: Edit, domain: Domain) -> None:
    if state.name_taken(domain):
        raise Conflict(f"Conflict occurred attempting to store domain - a domain named {domain.name!r} exists.")
    edit.put(domain)


async def update(call: Call) -> Response:
    call.authorize("update_domain")
    id_ = call.param("domain_id")
    wanted = await call.member("domain")
    body.same_id(wanted, id_)

    def decide(state: State, edit: Edit) -> Domain:
        old = existing(state, id_)
        enabled = body.flag(wanted, "enabled", old.enabled)
        new = replace(
            old,
            name=body.name_of(wanted, old.name, most=64),
            description=body.description(wanted, old.description),
            enabled=enabled,
            tags=body.tags(body.listing(wanted, "tags", list(old.tags))),
            extra=body.rest(wanted, _KNOWN, old.extra),
            epoch=old.epoch + (old.enabled and not enabled),
        )
        put(state, edit, new)
        return new

    return json_response({"domain": shown(call, await call.change(decide))})


async def delete(call: Call) -> Response:
    call.authorize("delete_domain")
    id_ = call.param("domain_id")

    def decide(state: State, edit: Edit) -> None:
        domain = existing(state, id_)
        if domain.enabled or id_ == DEFAULT_DOMAIN:
            raise Forbidden("Cannot delete a domain that is enabled, please disable it first.")
        edit.delete(domain)

    await call.change(decide)
    return empty(204)


def routes() -> list[Route]:
    return [
        route("GET", "/domains", listing),
        route("POST", "/domains", create),
        *(route(method, "/domains/{domain_id}", show) for method in ("GET", "HEAD")),
        route("PATCH", "/domains/{domain_id}", update),
        route("DELETE", "/domains/{domain_id}", delete),
    ]
