"""/v3/auth: log-in, validation and end of tokens; what a bearer can reach."""

from __future__ import annotations

from typing import Any

from kilonova.http.errors import NotFound, Unauthorized
from kilonova.http.message import Response, empty, json_response
from kilonova.http.routing import Route
from kilonova.identity.authenticate import authenticate
from kilonova.identity.records import SYSTEM, Domain, Project, Revocation
from kilonova.identity.resources.call import Call, route
from kilonova.identity.resources.domains import shown as domain_shown
from kilonova.identity.resources.listing import collection, truthy
from kilonova.identity.resources.projects import shown as project_shown
from kilonova.identity.resources.token_document import document
from kilonova.identity.verdict import Verdict

_VARY = {"vary": "X-Auth-Token"}


def _catalog(call: Call, verdict: Verdict) -> list[dict[str, Any]] | None:
    if call.request.query_one("nocatalog") is not None:
        return None
    project = verdict.project.id if verdict.project is not None else None
    return call.identity.catalog.entries(call.state, call.request.host_url, project, verdict.user.id)


async def create(call: Call) -> Response:
    verdict = await authenticate(call.identity, await call.request.json(), call.request.client)
    body = {"token": document(call.state, verdict, _catalog(call, verdict))}
    return json_response(body, 201, {"x-subject-token": call.identity.codec.seal(verdict.token), **_VARY})


async def _subject(call: Call, rule: str) -> tuple[str, Verdict]:
    """The token that is asked about. Raises NotFound for one that does not count, Forbidden."""
    text = call.request.headers.get("x-subject-token", "")
    if not text:
        raise NotFound("Could not find token: the header X-Subject-Token is missing.")
    late = rule == "validate_token" and truthy(call.request.query_one("allow_expired"))
    try:
        verdict = await call.identity.validator.judge(text, allow_expired=late)
    except Unauthorized:
        call.authorize(rule, user_id=None)
        raise NotFound("Could not find token.") from None
    call.authorize(rule, user_id=verdict.user.id)
    if late and call.now - verdict.token.expires_at > _LATE_US:
        raise NotFound("Could not find token.")
    return text, verdict


_LATE_US = 2 * 24 * 3600 * 1_000_000


async def validate(call: Call) -> Response:
    text, verdict = await _subject(call, "validate_token")
    body = {"token": document(call.state, verdict, _catalog(call, verdict))}
    return json_response(body, 200, {"x-subject-token": text, **_VARY})


async def revoke(call: Call) -> Response:
    _, verdict = await _subject(call, "revoke_token")
    ended = Revocation(id=verdict.token.audit_ids[0], expires_at=verdict.token.expires_at)
    await call.change(lambda state, edit: edit.put(ended))
    return empty(204)


async def catalog(call: Call) -> Response:
    entries = call.identity.catalog.entries(
        call.state, call.request.host_url, call.creds.project_id, call.creds.user_id
    )
    return json_response({"catalog": entries, "links": {"self": f"{call.base}/auth/catalog"}})


async def projects(call: Call) -> Response:
    state = call.state
    own = [state.get(Project, id_) for id_ in sorted(state.targets(call.creds.user_id, "project"))]
    return collection(call, "projects", [project_shown(call, each) for each in own if each and _usable(call, each)])


def _usable(call: Call, project: Project) -> bool:
    domain = call.state.get(Domain, project.domain_id)
    return project.enabled and domain is not None and domain.enabled


async def domains(call: Call) -> Response:
    state = call.state
    own = [state.get(Domain, id_) for id_ in sorted(state.targets(call.creds.user_id, "domain"))]
    return collection(call, "domains", [domain_shown(call, each) for each in own if each and each.enabled])


async def system(call: Call) -> Response:
    own = [{"all": True}] if call.state.roles(call.creds.user_id, SYSTEM) else []
    return json_response({"system": own, "links": {"self": f"{call.base}/auth/system"}})


def routes() -> list[Route]:
    return [
        route("POST", "/auth/tokens", create, auth=False),
        *(route(method, "/auth/tokens", validate) for method in ("GET", "HEAD")),
        route("DELETE", "/auth/tokens", revoke),
        *(
            route(method, f"/auth/{handler.__name__}", handler)
            for handler in (catalog, projects, domains, system)
            for method in ("GET", "HEAD")
        ),
    ]
