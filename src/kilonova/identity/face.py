"""The identity API as an HTTP face, mounted at ``/identity``: version documents, /v3, Keystone's error format.

What Keystone has and this does not answers 501 and says what to configure instead; what neither has is a 404.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from kilonova.http.errors import HttpError, MethodNotAllowed, NotFound, NotImplementedHere, Unauthorized
from kilonova.http.message import Request, Response, json_response
from kilonova.http.routing import Route, Router
from kilonova.identity.resources import all_routes
from kilonova.identity.resources.call import Call, Handler
from kilonova.identity.service import Identity
from kilonova.identity.tokens import InvalidToken, Token
from kilonova.identity.validator import REFUSAL

_ELSEWHERE = (
    "OS-FEDERATION", "OS-INHERIT", "OS-OAUTH1", "OS-OAUTH2", "OS-TRUST", "OS-REVOKE", "OS-EP-FILTER",
    "OS-ENDPOINT-POLICY", "OS-SIMPLE-CERT", "OS-PKI", "policies", "ec2tokens", "s3tokens", "auth/OS-FEDERATION",
    "access_rules",
)  # fmt: skip
_VARY = "X-Auth-Token"
_UPDATED = "2020-04-07T00:00:00Z"


class IdentityFace:
    """``IdentityFace(identity)``."""

    name = "identity"

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self._router = Router(all_routes())

    @property
    def routes(self) -> tuple[Route, ...]:
        return self._router.routes

    async def handle(self, request: Request, path: str) -> Response:
        if not path.strip("/"):
            request.route = "/"
            version = self._version(request)
            location = {"location": version["links"][0]["href"], "vary": _VARY}
            return json_response({"versions": {"values": [version]}}, 300, location)
        if path.strip("/") == "v3" and request.method in ("GET", "HEAD"):
            request.route = "/v3"
            return json_response({"version": self._version(request)})
        try:
            route = self._router.find(request, path)
        except NotFound:
            below = path.strip("/").removeprefix("v3/")
            if below.startswith(_ELSEWHERE) or any(f"/{each}" in below for each in _ELSEWHERE):
                raise NotImplementedHere(
                    "This part of the API is Keystone's own: configure a real Keystone ([keystone_authtoken] auth_url)."
                ) from None
            raise
        if any("\x00" in value for value in request.params.values()):
            raise NotFound("The resource could not be found.")
        bearer: Token | None = None
        if route.auth:
            bearer = await self._authenticate(request)
        handler: Handler = route.data
        response = await handler(Call(self.identity, request, bearer))
        response.headers.setdefault("vary", _VARY)
        return response

    async def _authenticate(self, request: Request) -> Token:
        text = request.headers.get("x-auth-token")
        if not text:
            raise Unauthorized(REFUSAL)
        request.creds = await self.identity.validator.validate(text)
        try:
            return self.identity.codec.open(text)
        except InvalidToken:
            raise Unauthorized(REFUSAL) from None

    def _version(self, request: Request) -> dict[str, Any]:
        url = f"{self.identity.catalog.base_url or request.host_url}{request.mount}/v3/"
        return {
            "id": "v3.14", "status": "stable", "updated": _UPDATED,
            "links": [{"rel": "self", "href": url}],
            "media-types": [{"base": "application/json", "type": "application/vnd.openstack.identity-v3+json"}],
        }  # fmt: skip

    def fault(self, request: Request, error: HttpError) -> Response:
        if isinstance(error, MethodNotAllowed):
            error.headers.setdefault("allow", "GET")
        headers = {"vary": _VARY, **error.headers}
        if error.status == 401:
            base = self.identity.catalog.base_url or request.host_url
            headers.setdefault("www-authenticate", f'Keystone uri="{base}{request.mount}"')
        title = HTTPStatus(error.status).phrase
        body = {"error": {"code": error.status, "message": error.message, "title": title}}
        return json_response(body, error.status, headers)
