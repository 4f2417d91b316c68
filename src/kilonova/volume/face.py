"""The volume API as an HTTP face, mounted at ``/volume``: what clients ask of Cinder v3 before they do without it.

There are no volumes yet: version documents, empty lists and limits of nothing are true answers; everything else
is refused and names Cinder.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kilonova.http.auth import TokenValidator
from kilonova.http.errors import HttpError, MethodNotAllowed, NotFound, NotImplementedHere, Unauthorized
from kilonova.http.message import Request, Response, json_response
from kilonova.http.routing import Route, Router

_TYPE = {
    "id": "6b1d5ee9-2a0e-5b6c-9c1b-0f0c8a4a7f10", "name": "__DEFAULT__", "description": "Default Volume Type",
    "is_public": True, "os-volume-type-access:is_public": True, "extra_specs": {}, "qos_specs_id": None,
}  # fmt: skip
_QUOTAS = (
    "volumes", "snapshots", "gigabytes", "backups", "backup_gigabytes", "groups", "per_volume_gigabytes",
)  # fmt: skip
_LIMITS = {
    "maxTotalVolumes": 0, "maxTotalSnapshots": 0, "maxTotalVolumeGigabytes": 0, "maxTotalBackups": 0,
    "maxTotalBackupGigabytes": 0, "totalVolumesUsed": 0, "totalSnapshotsUsed": 0, "totalGigabytesUsed": 0,
    "totalBackupsUsed": 0, "totalBackupGigabytesUsed": 0,
}  # fmt: skip
_EMPTY = {
    "volumes": ("volumes", "volumes/detail"),
    "snapshots": ("snapshots", "snapshots/detail"),
    "backups": ("backups", "backups/detail"),
    "attachments": ("attachments", "attachments/detail"),
    "groups": ("groups", "groups/detail"),
    "services": ("os-services",),
    "transfers": ("os-volume-transfer", "os-volume-transfer/detail"),
    "qos_specs": ("qos-specs",),
}
_KINDS = ("volumes", "snapshots", "backups", "attachments")
_FAULTS = {
    400: "badRequest", 401: "unauthorized", 403: "forbidden", 404: "itemNotFound", 405: "badMethod",
    413: "overLimit", 501: "notImplemented", 503: "serviceUnavailable",
}  # fmt: skip


class VolumeFace:
    """``VolumeFace(tokens)``; the project id after ``/v3`` is optional, as in Cinder."""

    name = "volume"

    def __init__(self, identity: TokenValidator, auth_uri: str = "") -> None:
        """`auth_uri`: where a caller without a token is sent; default: this cloud's own identity service."""
        self._identity, self._auth_uri = identity, auth_uri
        routes = [Route("GET", f"/{path}", _empty) for paths in _EMPTY.values() for path in paths]
        routes += [
            Route("GET", "/types", _types), Route("GET", "/types/{id}", _type),
            Route("GET", "/limits", _limits), Route("GET", "/extensions", _extensions),
            Route("GET", "/os-availability-zone", _zones), Route("GET", "/os-quota-sets/{id}", _quota),
            Route("GET", "/os-quota-sets/{id}/defaults", _quota),
            *(Route("GET", f"/{kind}/{{id}}", _none_such) for kind in _KINDS),
        ]  # fmt: skip
        self._router = Router(routes)
        self._tops = frozenset(each.path.strip("/").split("/", 1)[0] for each in routes)

    async def handle(self, request: Request, path: str) -> Response:
        first, _, rest = path.strip("/").partition("/")
        if not first:
            request.route = "/"
            return json_response({"versions": [_version(request)]}, 300)
        if first != "v3":
            raise NotFound("The resource could not be found.")
        if not rest:
            request.route = "/v3"
            return json_response({"versions": [_version(request)]})
        token = request.headers.get("x-auth-token")
        if not token:
            raise Unauthorized("The request you have made requires authentication.")
        request.creds = creds = await self._identity.validate(token)
        top, _, below = rest.partition("/")
        if top not in self._tops and (top == creds.project_id or creds.is_admin):
            rest = below
        try:
            route = self._router.find(request, rest)
        except (NotFound, MethodNotAllowed):
            raise NotImplementedHere(
                "The embedded volume service has no volumes yet; configure a real Cinder for that."
            ) from None
        return await route.handler(request)

    def fault(self, request: Request, error: HttpError) -> Response:
        headers = dict(error.headers)
        if error.status == 401:
            mount = request.mount.rsplit("/", 1)[0]
            uri = self._auth_uri or f"{request.host_url}{mount}/identity"
            headers.setdefault("www-authenticate", f'Keystone uri="{uri}"')
        name = _FAULTS.get(error.status, "computeFault")
        return json_response({name: {"code": error.status, "message": error.message}}, error.status, headers)


def _version(request: Request) -> Mapping[str, Any]:
    # 3.0 only: no later microversion brings anything that is here.
    return {
        "id": "v3.0", "status": "CURRENT", "version": "3.0", "min_version": "3.0", "updated": "2026-11-01T00:00:00Z",
        "links": [{"rel": "self", "href": f"{request.host_url}{request.mount}/v3/"}],
        "media-types": [{"base": "application/json", "type": "application/vnd.openstack.volume+json;version=3"}],
    }  # fmt: skip


async def _empty(request: Request) -> Response:
    path = request.route.strip("/")
    return json_response({next(key for key, paths in _EMPTY.items() if path in paths): []})


async def _types(request: Request) -> Response:
    return json_response({"volume_types": [_TYPE]})


async def _type(request: Request) -> Response:
    if request.params["id"] not in (_TYPE["id"], "default"):
        raise NotFound(f"Volume type {request.params['id'][:100]} could not be found.")
    return json_response({"volume_type": _TYPE})


async def _limits(request: Request) -> Response:
    return json_response({"limits": {"rate": [], "absolute": _LIMITS}})


async def _extensions(request: Request) -> Response:
    return json_response({"extensions": []})


async def _zones(request: Request) -> Response:
    return json_response({"availabilityZoneInfo": [{"zoneName": "nova", "zoneState": {"available": True}}]})


async def _quota(request: Request) -> Response:
    shown: dict[str, Any] = {"id": request.params["id"], **dict.fromkeys(_QUOTAS, 0)}
    if request.query_one("usage") in ("True", "true"):
        nothing = {"limit": 0, "in_use": 0, "reserved": 0}
        shown.update(dict.fromkeys(_QUOTAS, nothing))
    return json_response({"quota_set": shown})


async def _none_such(request: Request) -> Response:
    kind = request.route.strip("/").split("/", 1)[0].removesuffix("s").capitalize()
    raise NotFound(f"{kind} {request.params['id'][:100]} could not be found.")
