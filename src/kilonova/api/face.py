"""The Compute API as an HTTP face: /v2.1 with microversions, /v2 relaxed, version documents.

Order of checks, as clients know it: token, microversion, route, project in the path, body and query
against the declaration, policy, then the operation's function.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from kilonova.api.faults import render
from kilonova.api.links import Base
from kilonova.api.microversion.documents import all_versions, choices, one_version
from kilonova.api.microversion.fields import query
from kilonova.api.microversion.version import OLDEST, echo, negotiate
from kilonova.api.operation import ANYONE, WEIGHED, Call, Operation
from kilonova.api.operations import all_operations
from kilonova.api.services import ApiServices
from kilonova.http.errors import BadRequest, Forbidden, HttpError, MethodNotAllowed, NotFound, Unauthorized
from kilonova.http.message import Request, Response, empty, json_response
from kilonova.http.routing import Route, Router
from kilonova.policy.errors import PolicyForbidden

_NOT_FOUND = "The resource could not be found."
_Spans = tuple[Operation, ...]
_VENDOR = "application/vnd.openstack.compute+json"
_PARAMETER = re.compile(r"{[^}]*}")
_HEX = frozenset("0123456789abcdef-")


class ComputeFace:
    """``ComputeFace(services)``, mounted at ``/compute``."""

    name = "compute"

    def __init__(self, services: ApiServices, operations: Iterable[Operation] | None = None) -> None:
        self.services = services
        self.operations = tuple(operations if operations is not None else all_operations())
        places: dict[tuple[str, str], list[Operation]] = defaultdict(list)
        for each in self.operations:
            places[each.method, _PARAMETER.sub("{}", each.path)].append(each)
        # Parameters are named as the first declaration of a place names them.
        self._router = Router(
            Route(method, found[0].path, _never, data=_group(found)) for (method, _), found in places.items()
        )
        self._tops = frozenset(path.strip("/").split("/", 1)[0] for _, path in places)

    async def handle(self, request: Request, path: str) -> Response:
        first, _, rest = path.strip("/").partition("/")
        if first not in ("v2.1", "v2"):
            return self._outside(request, path)
        if not rest:
            return self._document(request, first)
        request.creds = await self._authenticate(request)
        if first == "v2.1":
            version = request.version = negotiate(request.headers)
            response = await self._dispatch(request, rest, first, version)
            if "vary" not in response.headers:
                response.headers.update(echo(version))
            return response
        return await self._dispatch(request, rest, first, OLDEST)

    def fault(self, request: Request, error: HttpError) -> Response:
        mount = request.mount.rsplit("/", 1)[0]
        auth_uri = self.services.settings.auth_uri or f"{request.host_url}{mount}/identity"
        response = render(error, request, auth_uri)
        response.headers.setdefault("x-compute-request-id", request.request_id)
        if isinstance(request.version, int):
            response.headers.update(echo(request.version))
        return response

    def _outside(self, request: Request, path: str) -> Response:
        base = f"{request.host_url}{request.mount}"
        request.route = "/"
        if path.strip("/"):
            return json_response(choices(base, path), 300)
        return json_response(all_versions(base))

    def _document(self, request: Request, mount: str) -> Response:
        if request.method not in ("GET", "HEAD"):
            raise NotFound(_NOT_FOUND)
        request.route = f"/{mount}/"
        base = f"{request.host_url}{request.mount}"
        return json_response(one_version(base, "v2.1" if mount == "v2.1" else "v2.0"))

    async def _authenticate(self, request: Request) -> Any:
        token = request.headers.get("x-auth-token")
        if not token:
            raise Unauthorized("The request you have made requires authentication.")
        return await self.services.identity.validate(token)

    async def _dispatch(self, request: Request, rest: str, mount: str, version: int) -> Response:
        rest, project = self._project(rest)
        if not rest and project:
            return self._document(request, mount)
        try:
            route = self._router.find(request, rest)
        except MethodNotAllowed:
            raise NotFound(_NOT_FOUND) from None
        relaxed = mount == "v2"
        spans: _Spans | Mapping[str, _Spans] = route.data
        body: Any = None
        if isinstance(spans, Mapping):
            body = await self._json(request)
            spans = _action(spans, body)
        found = next((each for each in spans if each.lives(version)), None)
        if found is None:
            raise NotFound(_NOT_FOUND)
        for value in request.params.values():
            if "\x00" in value:
                raise NotFound(_NOT_FOUND)
        if project and project != request.credentials.project_id:
            raise BadRequest(
                f"Malformed request URL: URL's project_id '{project}' doesn't match Context's project_id "
                f"'{request.credentials.project_id}'"
            )
        if found.body is not None and body is None:
            body = await self._json(request)
        call = Call(self.services, request, found, version, relaxed, body)
        request.state["base"] = Base(request.host_url, request.mount, mount, project)
        self._check(call)
        if found.rule is not ANYONE and found.rule is not WEIGHED:
            call.authorize(found.rule)
        return self._answer(request, found, version, await self._run(call))

    def _project(self, rest: str) -> tuple[str, str]:
        """(path below the project, project id or "")."""
        first, _, below = rest.partition("/")
        if first in self._tops or not first or not _HEX.issuperset(first):
            return rest, ""
        return below, first

    @staticmethod
    async def _json(request: Request) -> Any:
        if not await request.body():
            return None
        return await request.json(media=_VENDOR if request.media == _VENDOR else "application/json")

    def _check(self, call: Call) -> None:
        found = call.operation
        if found.body is not None:
            if call.body is None:
                raise BadRequest("Malformed request body")
            found.body.check(call.body, call.version, call.relaxed)
        if call.request.query_string:
            for name, value in call.request.query:
                if "\x00" in value or "\x00" in name:
                    raise BadRequest(f"The query parameter {name[:100]!r} holds a NUL character.")
                call.query.setdefault(name, []).append(value)
            (found.query or _NO_QUERY).check(call.query, call.version, call.relaxed)

    @staticmethod
    async def _run(call: Call) -> Any:
        try:
            return await call.operation.function(call)
        except PolicyForbidden as error:
            raise Forbidden(str(error)) from None

    @staticmethod
    def _answer(request: Request, found: Operation, version: int, value: Any) -> Response:
        if isinstance(value, Response):
            response = value
        elif value is None:
            response = empty(found.status(version))
        else:
            response = json_response(value, found.status(version))
        response.headers["x-compute-request-id"] = request.request_id
        return response


def _group(found: list[Operation]) -> _Spans | dict[str, _Spans]:
    """Operations of one place: by action name where they are actions."""
    if found[0].action is None:
        _disjoint(found)
        return tuple(found)
    actions: dict[str, list[Operation]] = defaultdict(list)
    for each in found:
        assert each.action is not None, f"{each.path} mixes actions and others"
        actions[each.action].append(each)
    for each_action in actions.values():
        _disjoint(each_action)
    return {name: tuple(spans) for name, spans in actions.items()}


def _disjoint(found: list[Operation]) -> None:
    for one, other in zip(sorted(found, key=_since), sorted(found, key=_since)[1:], strict=False):
        if one.until >= other.since:
            raise ValueError(f"{one.method} {one.path} {one.action or ''} is declared twice for 2.{other.since}")


def _since(operation: Operation) -> int:
    return operation.since


def _action(spans: Mapping[str, _Spans], body: Any) -> _Spans:
    if not isinstance(body, dict) or not body:
        raise BadRequest("Malformed request body")
    name = next(iter(body))
    found = spans.get(name)
    if found is None:
        raise BadRequest(f"There is no such action: {name[:100]}")
    return found


async def _never(request: Request) -> Response:
    raise AssertionError("operations are run through their declaration")



_NO_QUERY = query(strict=102)
