"""Placement's API as an HTTP face, mounted at ``/placement`` or alone.

A route is a row: method, path, handler, since which microversion. Administrators and services may use
all of it; a project's own readers its usages.
"""

from __future__ import annotations

from kilonova.db.database import Database
from kilonova.http.auth import TokenValidator
from kilonova.http.errors import (
    Forbidden,
    HttpError,
    MethodNotAllowed,
    NotAcceptable,
    NotFound,
    Unauthorized,
    UnsupportedMedia,
)
from kilonova.http.message import Request, Response
from kilonova.http.routing import Route, Router
from kilonova.placement.handlers import (
    aggregates,
    allocations,
    candidates,
    classes,
    inventories,
    providers,
    reshape,
    root,
    traits,
    usages,
)
from kilonova.placement.handlers.context import Context, Handler
from kilonova.placement.wire import LATEST, OLDEST, fault, negotiate, version_headers

_P = "/resource_providers"
_I = _P + "/{uuid}/inventories"
_C = "/resource_classes"
ROUTES: tuple[tuple[str, str, Handler, int], ...] = (
    ("GET", "/", root.document, 0),
    ("GET", _P, providers.listing, 0),
    ("POST", _P, providers.create, 0),
    ("GET", _P + "/{uuid}", providers.show, 0),
    ("PUT", _P + "/{uuid}", providers.update, 0),
    ("DELETE", _P + "/{uuid}", providers.delete, 0),
    ("GET", _I, inventories.listing, 0),
    ("POST", _I, inventories.create, 0),
    ("PUT", _I, inventories.replace, 0),
    ("DELETE", _I, inventories.delete_all, 5),
    ("GET", _I + "/{resource_class}", inventories.show, 0),
    ("PUT", _I + "/{resource_class}", inventories.update, 0),
    ("DELETE", _I + "/{resource_class}", inventories.delete, 0),
    ("GET", _P + "/{uuid}/usages", usages.of_provider, 0),
    ("GET", _P + "/{uuid}/aggregates", aggregates.listing, 1),
    ("PUT", _P + "/{uuid}/aggregates", aggregates.replace, 1),
    ("GET", _P + "/{uuid}/allocations", allocations.of_provider, 0),
    ("GET", _P + "/{uuid}/traits", traits.of_provider, 6),
    ("PUT", _P + "/{uuid}/traits", traits.replace, 6),
    ("DELETE", _P + "/{uuid}/traits", traits.clear, 6),
    ("GET", _C, classes.listing, 2),
    ("POST", _C, classes.create, 2),
    ("GET", _C + "/{name}", classes.show, 2),
    ("PUT", _C + "/{name}", classes.ensure_or_rename, 2),
    ("DELETE", _C + "/{name}", classes.delete, 2),
    ("GET", "/traits", traits.listing, 6),
    ("GET", "/traits/{name}", traits.show, 6),
    ("PUT", "/traits/{name}", traits.ensure, 6),
    ("DELETE", "/traits/{name}", traits.delete, 6),
    ("GET", "/allocation_candidates", candidates.listing, 10),
    ("POST", "/allocations", allocations.replace_many, 13),
    ("GET", "/allocations/{consumer_uuid}", allocations.show, 0),
    ("PUT", "/allocations/{consumer_uuid}", allocations.replace, 0),
    ("DELETE", "/allocations/{consumer_uuid}", allocations.delete, 0),
    ("GET", "/usages", usages.of_project, 9),
    ("POST", "/reshaper", reshape.reshape, 30),
)
_MISSING = "The resource could not be found."


class PlacementFace:
    """``PlacementFace(db, tokens)``."""

    name = "placement"

    def __init__(self, db: Database, identity: TokenValidator, auth_uri: str = "") -> None:
        """`auth_uri`: where a caller without a token is sent; default: this cloud's own identity service."""
        self._auth_uri = auth_uri
        self._context = Context(db)
        self._identity = identity
        self._router = Router(
            Route(method, path, _unused, data=(handler, since)) for method, path, handler, since in ROUTES
        )

    async def handle(self, request: Request, path: str) -> Response:
        anyone = path.strip("/") == ""
        if not anyone:
            await self._authenticate(request)
        version = request.version = negotiate(request.headers)
        try:
            route = self._router.find(request, path)
        except NotFound:
            raise NotFound(_MISSING) from None
        except MethodNotAllowed as error:
            text = f"The method {request.method[:20]} is not allowed for this resource."
            raise MethodNotAllowed(text, headers=error.headers) from None
        handler, since = route.data
        if version < since:
            if (request.method, since) == ("DELETE", 5):  # the path is older than this method on it
                raise MethodNotAllowed("The method specified is not allowed for this resource.",
                                       headers={"allow": "GET, POST, PUT"})  # fmt: skip
            raise NotFound(_MISSING)
        if not anyone:
            self._authorize(request)
        if request.method in ("GET", "HEAD"):
            accept = request.headers.get("accept", "")
            if accept and not any(kind in accept for kind in ("*/*", "application/*", "application/json")):
                raise NotAcceptable("Only application/json is provided")
        elif "content-type" in request.headers and not request.headers["content-type"].startswith("application/json"):
            raise UnsupportedMedia(
                f"The media type {request.headers['content-type'][:100]} is not supported, use application/json"
            )
        response: Response = await handler(request, self._context)
        response.headers |= version_headers(version)
        return response

    def fault(self, request: Request, error: HttpError) -> Response:
        if not isinstance(request.version, int) and not isinstance(error, NotAcceptable):
            request.version = OLDEST
        response = fault(request, error)
        if error.status == 401:
            uri = self._auth_uri or f"{request.host_url}/identity"
            response.headers.setdefault("www-authenticate", f'Keystone uri="{uri}"')
        return response

    async def _authenticate(self, request: Request) -> None:
        token = request.headers.get("x-auth-token")
        if not token:
            raise Unauthorized("Authentication required")
        request.creds = await self._identity.validate(token)

    @staticmethod
    def _authorize(request: Request) -> None:
        roles = request.credentials.roles
        if roles & {"admin", "service"} or (request.route == "/usages" and "reader" in roles):
            return
        raise Forbidden("admin required")


async def _unused(request: Request) -> Response:
    raise NotFound(_MISSING)


__all__ = ["LATEST", "ROUTES", "PlacementFace"]
