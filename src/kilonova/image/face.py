"""The image API as an HTTP face: Glance v2, mounted at ``/image``.

All minor versions share ``/v2``; their numbers in the path are taken too. Faults look as Glance's: an HTML page with
the status as its title, or JSON for those who ask for it.
"""

from __future__ import annotations

import re
from html import escape
from http import HTTPStatus
from typing import Any

from kilonova.http.auth import TokenValidator
from kilonova.http.errors import HttpError, MethodNotAllowed, NotFound, Unauthorized, Unavailable
from kilonova.http.message import Request, Response, json_response
from kilonova.http.routing import Route, Router
from kilonova.image.data import DataHandlers
from kilonova.image.schemas import SCHEMAS
from kilonova.image.service import EmbeddedImages
from kilonova.pools import Overloaded

MINORS = (17, 15, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0)
"""What Glance counts as versions; we have what they brought, stores (8) as one store."""
_VERSION = re.compile(r"v2(\.\d{1,2})?\Z")


class ImageFace:
    """``ImageFace(EmbeddedImages(...), tokens)``."""

    name = "image"

    def __init__(self, images: EmbeddedImages, identity: TokenValidator, auth_uri: str = "") -> None:
        """`auth_uri`: where a caller without a token is sent; default: this cloud's own identity service."""
        self._identity, self._auth_uri = identity, auth_uri
        on = DataHandlers(images)
        image = "/images/{id}"
        routes = [
            ("GET", "/images", on.index), ("POST", "/images", on.create),
            ("GET", image, on.show), ("PATCH", image, on.patch), ("DELETE", image, on.delete),
            ("PUT", f"{image}/file", on.upload), ("GET", f"{image}/file", on.download),
            ("HEAD", f"{image}/file", on.download),
            ("PUT", f"{image}/stage", on.stage), ("POST", f"{image}/import", on.import_image),
            ("GET", f"{image}/tasks", on.tasks_of), ("GET", "/tasks", on.tasks),
            ("POST", f"{image}/actions/deactivate", on.deactivate),
            ("POST", f"{image}/actions/reactivate", on.reactivate),
            ("PUT", f"{image}/tags/{{tag}}", on.add_tag), ("DELETE", f"{image}/tags/{{tag}}", on.drop_tag),
            ("GET", f"{image}/members", on.members), ("POST", f"{image}/members", on.add_member),
            ("GET", f"{image}/members/{{member}}", on.member), ("PUT", f"{image}/members/{{member}}", on.set_member),
            ("DELETE", f"{image}/members/{{member}}", on.drop_member),
            ("GET", "/schemas/{name}", _schema), ("GET", "/info/import", _info_import),
            ("GET", "/info/stores", _info_stores),
        ]  # fmt: skip
        self._router = Router(Route(method, path, handler) for method, path, handler in routes)

    async def handle(self, request: Request, path: str) -> Response:
        first, _, rest = path.strip("/").partition("/")
        if not _VERSION.match(first):
            request.route = "/"
            if first and first != "versions":
                raise NotFound("The resource could not be found.")
            return json_response({"versions": _versions(request)}, 200 if first == "versions" else 300)
        if not rest:
            request.route = "/v2"
            return json_response({"versions": _versions(request)}, 300)
        token = request.headers.get("x-auth-token")
        if not token:
            raise Unauthorized("The request you have made requires authentication.")
        request.creds = await self._identity.validate(token)
        try:
            route = self._router.find(request, rest)
        except MethodNotAllowed as error:
            error.message = "The method specified is not allowed for this resource."
            raise
        if any("\x00" in value for value in request.params.values()):
            raise NotFound("The resource could not be found.")
        try:
            return await route.handler(request)
        except Overloaded as error:
            raise Unavailable(str(error)) from None

    def fault(self, request: Request, error: HttpError) -> Response:
        headers = dict(error.headers)
        if error.status == 401:
            mount = request.mount.rsplit("/", 1)[0]
            uri = self._auth_uri or f"{request.host_url}{mount}/identity"
            headers.setdefault("www-authenticate", f'Keystone uri="{uri}"')
        title = f"{error.status} {HTTPStatus(error.status).phrase}"
        if "application/json" in request.headers.get("accept", "") and "html" not in request.headers.get("accept", ""):
            body: dict[str, Any] = {"message": error.message, "code": title, "title": HTTPStatus(error.status).phrase}
            return json_response(body, error.status, headers)
        page = (
            f"<html>\n <head>\n  <title>{title}</title>\n </head>\n <body>\n  <h1>{title}</h1>\n"
            f"  {escape(error.message)}<br /><br />\n </body>\n</html>"
        )
        return Response(error.status, page.encode("utf-8", "replace"), headers, media="text/html; charset=UTF-8")


def _versions(request: Request) -> list[dict[str, Any]]:
    link = {"rel": "self", "href": f"{request.host_url}{request.mount}/v2/"}
    return [
        {"id": f"v2.{minor}", "status": "SUPPORTED" if n else "CURRENT", "links": [link]}
        for n, minor in enumerate(MINORS)
    ]


async def _schema(request: Request) -> Response:
    found = SCHEMAS.get(request.params["name"])
    if found is None:
        raise NotFound("The resource could not be found.")
    return json_response(found)


async def _info_import(request: Request) -> Response:
    methods = {"description": "Import methods available.", "type": "array", "value": ["glance-direct"]}
    return json_response({"import-methods": methods})


async def _info_stores(request: Request) -> Response:
    return json_response({"stores": [{"id": "file", "description": "The cloud's own folder", "default": "true"}]})
