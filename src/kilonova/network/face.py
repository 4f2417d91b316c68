"""The network API as an HTTP face: Neutron v2.0, mounted at ``/network``.

Networks, subnets, ports and security groups; what Neutron has beyond is empty to list and refused to make.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from kilonova.http.auth import TokenValidator
from kilonova.http.errors import HttpError, NotFound, Unauthorized
from kilonova.http.message import Request, Response, json_response
from kilonova.http.routing import Handler, Route, Router
from kilonova.network import groups, networks, ports, subnets
from kilonova.network.errors import BY_STATUS, absent
from kilonova.network.extensions import EXTENSIONS, NOTHING
from kilonova.network.handlers import Handlers
from kilonova.network.resource import Limits, Resource
from kilonova.network.service import EmbeddedNetwork

RESOURCES: tuple[Resource[Any], ...] = (
    networks.RESOURCE, subnets.RESOURCE, ports.RESOURCE, groups.GROUP, groups.RULE,
)  # fmt: skip


class NetworkFace:
    """``NetworkFace(EmbeddedNetwork(...), tokens)``."""

    name = "network"

    def __init__(
        self, network: EmbeddedNetwork, identity: TokenValidator, limits: Limits | None = None, auth_uri: str = ""
    ) -> None:
        """`auth_uri`: where a caller without a token is sent; default: this cloud's own identity service."""
        self._identity, self._auth_uri = identity, auth_uri
        on = Handlers(network, limits or Limits())
        routes: list[Route] = []
        for resource in RESOURCES:
            routes += _routes(on, resource)
        for name in NOTHING:
            routes += [
                Route("GET", f"/{name}", partial(_nothing, name.replace("-", "_"))),
                Route("POST", f"/{name}", partial(_absent, name)),
                Route("GET", f"/{name}/{{id}}", partial(_none_such, name)),
                Route("PUT", f"/{name}/{{id}}", partial(_none_such, name)),
                Route("DELETE", f"/{name}/{{id}}", partial(_none_such, name)),
            ]
        routes += [
            Route("GET", "/extensions", _extensions),
            Route("GET", "/extensions/{alias}", _extension),
            Route("GET", "/quotas", on.quotas),
            Route("GET", "/quotas/{id}", on.quota),
            Route("GET", "/quotas/{id}/default", on.quota),
            Route("GET", "/quotas/{id}/details", on.quota_details),
            Route("PUT", "/quotas/{id}", on.no_quota_change),
            Route("DELETE", "/quotas/{id}", on.no_quota_change),
        ]
        self._router = Router(routes)

    async def handle(self, request: Request, path: str) -> Response:
        first, _, rest = path.strip("/").partition("/")
        if not first:
            request.route = "/"
            link = {"rel": "self", "href": f"{request.host_url}{request.mount}/v2.0/"}
            return json_response({"versions": [{"id": "v2.0", "status": "CURRENT", "links": [link]}]})
        if first != "v2.0":
            raise NotFound("The resource could not be found.")
        if not rest:
            request.route = "/v2.0"
            return json_response({"resources": _listed(request)})
        token = request.headers.get("x-auth-token")
        if not token:
            raise Unauthorized("The request you have made requires authentication.")
        request.creds = await self._identity.validate(token)
        # Older clients put the format into the path.
        route = self._router.find(request, rest.removesuffix(".json"))
        if any("\x00" in value for value in request.params.values()):
            raise NotFound("The resource could not be found.")
        return await route.handler(request)

    def fault(self, request: Request, error: HttpError) -> Response:
        headers = dict(error.headers)
        if error.status == 401:
            mount = request.mount.rsplit("/", 1)[0]
            uri = self._auth_uri or f"{request.host_url}{mount}/identity"
            headers.setdefault("www-authenticate", f'Keystone uri="{uri}"')
        kind = error.code or BY_STATUS.get(error.status, "HTTPInternalServerError")
        body = {"NeutronError": {"type": kind, "message": error.message, "detail": ""}}
        return json_response(body, error.status, headers)


def _routes(on: Handlers, resource: Resource[Any]) -> list[Route]:
    def route(method: str, path: str, handler: Callable[[Resource[Any], Request], Awaitable[Response]]) -> Route:
        bound: Handler = partial(handler, resource)
        return Route(method, f"/{resource.collection}{path}", bound)

    found = [
        route("GET", "", on.index), route("POST", "", on.create), route("GET", "/{id}", on.show),
        route("DELETE", "/{id}", on.delete),
    ]  # fmt: skip
    if resource.update is not None:
        found.append(route("PUT", "/{id}", on.update))
    if "tags" in resource.attributes:
        found += [
            route("GET", "/{id}/tags", on.tags), route("PUT", "/{id}/tags", on.set_tags),
            route("DELETE", "/{id}/tags", on.clear_tags), route("GET", "/{id}/tags/{tag}", on.has_tag),
            route("PUT", "/{id}/tags/{tag}", on.add_tag), route("DELETE", "/{id}/tags/{tag}", on.drop_tag),
        ]  # fmt: skip
    return found


def _listed(request: Request) -> list[dict[str, Any]]:
    base = f"{request.host_url}{request.mount}/v2.0"
    return [
        {
            "name": each.member, "collection": each.collection.replace("-", "_"),
            "links": [{"rel": "self", "href": f"{base}/{each.collection}"}],
        }
        for each in RESOURCES
    ]  # fmt: skip


async def _extensions(request: Request) -> Response:
    return json_response({"extensions": list(EXTENSIONS.values())})


async def _extension(request: Request) -> Response:
    found = EXTENSIONS.get(request.params["alias"])
    if found is None:
        raise NotFound(f"Extension with alias {request.params['alias'][:50]} does not exist", code="HTTPNotFound")
    return json_response({"extension": found})


async def _nothing(name: str, request: Request) -> Response:
    return json_response({name: []})


async def _absent(name: str, request: Request) -> Response:
    raise absent(name)


async def _none_such(name: str, request: Request) -> Response:
    raise NotFound(f"There is no {name.removesuffix('s')} {request.params['id'][:100]}.")
