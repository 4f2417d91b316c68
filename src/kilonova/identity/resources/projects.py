"""/v3/projects and their tags."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from kilonova.http.errors import BadRequest, Conflict, Forbidden, NotFound
from kilonova.http.message import Response, empty, json_response
from kilonova.http.routing import Route
from kilonova.identity.directory import Edit
from kilonova.identity.records import Domain, Project, new_id
from kilonova.identity.resources import body
from kilonova.identity.resources.call import Call, route
from kilonova.identity.resources.listing import collection, pages, truthy
from kilonova.identity.state import State

_KNOWN = (
    "name", "description", "enabled", "tags", "options", "domain_id", "parent_id", "is_domain", "parents", "subtree"
)  # fmt: skip
_FIELDS = ("name", "domain_id", "enabled", "parent_id", "is_domain", "id")
_DEEPEST = 5


def shown(call: Call, project: Project) -> dict[str, Any]:
    return {
        **project.extra, "id": project.id, "name": project.name, "domain_id": project.domain_id,
        "parent_id": project.parent_id, "is_domain": False, "description": project.description,
        "enabled": project.enabled, "tags": list(project.tags), "options": {},
        "links": {"self": f"{call.base}/projects/{project.id}"},
    }  # fmt: skip


def existing(state: State, id_: str) -> Project:
    """Raises NotFound."""
    found = state.get(Project, id_)
    if found is None:
        raise NotFound(f"Could not find project: {id_[:64]}.")
    return found


def domain_of(call: Call, wanted: dict[str, Any], default: str | None = None) -> str:
    """The `domain_id` of a new thing: as asked, else the caller's. Raises BadRequest."""
    creds = call.creds
    own = default or creds.domain_id or creds.project_domain_id or creds.user_domain_id
    id_: str = body.text(wanted, "domain_id", None, most=64) or own
    if call.state.get(Domain, id_) is None:
        raise BadRequest(f"Could not find domain: {id_}.")
    return id_


def _target(state: State, id_: str) -> dict[str, str | None]:
    found = state.get(Project, id_)
    return {"target_domain_id": found.domain_id, "project_id": found.id} if found else {}


async def listing(call: Call) -> Response:
    if truthy(call.request.query_one("is_domain")):
        only = call.only_domain("list_projects")
        domains = [_as_project(call, each) for each in call.state.values(Domain) if only in (None, each.id)]
        return collection(call, "projects", domains, _FIELDS)
    only = call.only_domain("list_projects")
    found = call.state.candidates(Project, call.request.query_one("name"))
    wanted = [each for each in found if only in (None, each.domain_id) and _tagged(call, each.tags)]
    return await pages(call, "projects", wanted, shown, _FIELDS)


def _as_project(call: Call, domain: Domain) -> dict[str, Any]:
    """A domain in the form of a project, which it also is to Keystone's clients."""
    return {
        "id": domain.id, "name": domain.name, "domain_id": None, "parent_id": None, "is_domain": True,
        "description": domain.description, "enabled": domain.enabled, "tags": list(domain.tags), "options": {},
        "links": {"self": f"{call.base}/projects/{domain.id}"},
    }  # fmt: skip


def _tagged(call: Call, tags: tuple[str, ...]) -> bool:
    """The filters tags, tags-any, not-tags and not-tags-any."""
    own = set(tags)
    for key, value in call.request.query:
        wanted = set(value.split(","))
        if (
            (key == "tags" and not wanted <= own)
            or (key == "tags-any" and not wanted & own)
            or (key == "not-tags" and wanted <= own)
            or (key == "not-tags-any" and wanted & own)
        ):
            return False
    return True


async def show(call: Call) -> Response:
    id_ = call.param("project_id")
    call.authorize("get_project", **_target(call.state, id_))
    project = existing(call.state, id_)
    answer = shown(call, project)
    flags = {key for key, value in call.request.query if truthy(value) or value == ""}
    above = _ancestors(call.state, project)
    if "parents_as_list" in flags:
        answer["parents"] = _listed(call, above)
    elif "parents_as_ids" in flags:
        chain: dict[str, Any] | None = {project.domain_id: None}
        for each in reversed(above):
            chain = {each.id: chain}
        answer["parents"] = chain
    if "subtree_as_list" in flags:
        answer["subtree"] = _listed(call, _descendants(call.state, project.id))
    elif "subtree_as_ids" in flags:
        answer["subtree"] = _tree(call.state, project.id)
    return json_response({"project": answer})


def _listed(call: Call, projects: list[Project]) -> list[dict[str, Any]]:
    """Those that the caller may see."""
    return [
        {"project": shown(call, each)}
        for each in projects
        if call.allows("get_project", target_domain_id=each.domain_id, project_id=each.id)
    ]


def _ancestors(state: State, project: Project) -> list[Project]:
    found: list[Project] = []
    parent = state.get(Project, project.parent_id)
    while parent is not None and len(found) < 2 * _DEEPEST:
        found.append(parent)
        parent = state.get(Project, parent.parent_id)
    return found


def _descendants(state: State, id_: str) -> list[Project]:
    children = state.children(id_)
    return [*children, *(each for child in children for each in _descendants(state, child.id))]


def _tree(state: State, id_: str) -> dict[str, Any] | None:
    return {child.id: _tree(state, child.id) for child in state.children(id_)} or None


async def create(call: Call) -> Response:
    call.authorize("create_project")
    wanted = await call.member("project")
    if body.flag(wanted, "is_domain", False):
        raise BadRequest("Projects that act as a domain are made as domains: use /v3/domains.")
    parent_id = body.text(wanted, "parent_id", None, most=64)
    parent = call.state.get(Project, parent_id) if parent_id else None
    if parent_id and parent is None and call.state.get(Domain, parent_id) is None:
        raise BadRequest(f"Could not find parent project: {parent_id}.")
    above = parent.domain_id if parent is not None else parent_id
    domain_id = domain_of(call, wanted, above)
    if above and domain_id != above:
        raise BadRequest("A project is in the same domain as its parent.")
    new = Project(
        id=new_id(),
        name=body.name_of(wanted, most=64),
        domain_id=domain_id,
        parent_id=parent_id or domain_id,
        description=body.description(wanted),
        enabled=body.flag(wanted, "enabled", True),
        tags=body.tags(body.listing(wanted, "tags", [])),
        extra=body.rest(wanted, _KNOWN),
    )
    await call.change(lambda state, edit: put(state, edit, new))
    return json_response({"project": shown(call, new)}, 201)


def put(state: State, edit: Edit, project: Project) -> None:
    if state.name_taken(project):
        raise Conflict(
            f"Conflict occurred attempting to store project - a project named {project.name!r} exists in the domain."
        )
    if state.get(Domain, project.domain_id) is None:
        raise BadRequest(f"Could not find domain: {project.domain_id}.")
    above = _ancestors(state, project)
    if not above and project.parent_id != project.domain_id:
        raise BadRequest(f"Could not find parent project: {project.parent_id}.")
    if len(above) >= _DEEPEST:
        raise Forbidden(f"Projects are nested at most {_DEEPEST} deep.")
    if project.enabled and not all(each.enabled for each in above):
        raise Forbidden("A project under a disabled one cannot be enabled.")
    edit.put(project)


async def update(call: Call) -> Response:
    call.authorize("update_project")
    id_ = call.param("project_id")
    wanted = await call.member("project")
    body.same_id(wanted, id_)

    def decide(state: State, edit: Edit) -> Project:
        old = existing(state, id_)
        for fixed in ("domain_id", "parent_id"):
            if wanted.get(fixed, getattr(old, fixed)) != getattr(old, fixed):
                raise BadRequest(f"{fixed!r} of a project cannot be changed.")
        enabled = body.flag(wanted, "enabled", old.enabled)
        if old.enabled and not enabled and any(each.enabled for each in state.children(id_)):
            raise Forbidden("Cannot disable a project that has enabled projects under it.")
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

    return json_response({"project": shown(call, await call.change(decide))})


async def delete(call: Call) -> Response:
    call.authorize("delete_project")
    id_ = call.param("project_id")

    def decide(state: State, edit: Edit) -> None:
        project = existing(state, id_)
        if state.children(id_):
            raise Forbidden("Cannot delete a project that has projects under it.")
        edit.delete(project)

    await call.change(decide)
    return empty(204)


async def tags_get(call: Call) -> Response:
    id_ = call.param("project_id")
    call.authorize("get_project", **_target(call.state, id_))
    return _tags_answer(call, existing(call.state, id_))


def _tags_answer(call: Call, project: Project) -> Response:
    links = {"self": f"{call.base}/projects/{project.id}/tags"}
    return json_response({"tags": list(project.tags), "links": links})


async def _retag(call: Call, change: Any) -> Project:
    call.authorize("update_project")
    id_ = call.param("project_id")

    def decide(state: State, edit: Edit) -> Project:
        old = existing(state, id_)
        new = replace(old, tags=body.tags(change(list(old.tags))))
        edit.put(new)
        return new

    return await call.change(decide)


async def tags_put(call: Call) -> Response:
    call.authorize("update_project")
    wanted = body.listing(body.mapping(await call.request.json(), "the body"), "tags")
    project = await _retag(call, lambda old: wanted)
    return _tags_answer(call, project)


async def tags_clear(call: Call) -> Response:
    await _retag(call, lambda old: [])
    return empty(204)


async def tag_get(call: Call) -> Response:
    id_ = call.param("project_id")
    call.authorize("get_project", **_target(call.state, id_))
    if call.param("tag") not in existing(call.state, id_).tags:
        raise NotFound("Could not find the tag.")
    return empty(204)


async def tag_put(call: Call) -> Response:
    tag = call.param("tag")
    await _retag(call, lambda old: [*old, tag])  # no Location: a tag may hold what a header may not
    return empty(201)


async def tag_delete(call: Call) -> Response:
    tag = call.param("tag")

    def without(old: list[str]) -> list[str]:
        if tag not in old:
            raise NotFound("Could not find the tag.")
        return [each for each in old if each != tag]

    await _retag(call, without)
    return empty(204)


def routes() -> list[Route]:
    one = "/projects/{project_id}"
    return [
        route("GET", "/projects", listing),
        route("POST", "/projects", create),
        *(route(method, one, show) for method in ("GET", "HEAD")),
        route("PATCH", one, update),
        route("DELETE", one, delete),
        route("GET", f"{one}/tags", tags_get),
        route("PUT", f"{one}/tags", tags_put),
        route("DELETE", f"{one}/tags", tags_clear),
        *(route(method, f"{one}/tags/{{tag}}", tag_get) for method in ("GET", "HEAD")),
        route("PUT", f"{one}/tags/{{tag}}", tag_put),
        route("DELETE", f"{one}/tags/{{tag}}", tag_delete),
    ]
