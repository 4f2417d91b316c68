"""What a guest asks 169.254.169.254, as HTTP: the OpenStack tree, and of the EC2 tree what a config drive holds.

A server is found by the source address, or by the signed id that a network's proxy sends (shared facts: metadata).
Nobody logs in here: what is shown is shown to the guest that it is about, and to nobody else.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from kilonova.http.errors import BadRequest, Forbidden, HttpError, MethodNotAllowed, NotFound
from kilonova.http.message import Request, Response
from kilonova.metadata import document
from kilonova.model.server import Server

Find = Callable[[str], Awaitable[Server | None]]

EC2_VERSIONS = (
    "1.0", "2007-01-19", "2007-03-01", "2007-08-29", "2007-10-10", "2007-12-15", "2008-02-01", "2008-09-01",
    "2009-04-04", "latest",
)  # fmt: skip
_SINCE = {
    "meta_data.json": "2012-08-10", "user_data": "2012-08-10", "vendor_data.json": "2013-10-17",
    "network_data.json": "2015-10-15", "vendor_data2.json": "2016-10-06",
}  # fmt: skip
_PLAIN, _JSON = "text/plain; charset=UTF-8", "application/json"
_encode = msgspec.json.Encoder(order="deterministic").encode
_SIGNED = ("x-instance-id", "x-tenant-id", "x-instance-id-signature")


class MetadataFace:
    """``MetadataFace(by_id, by_address, secret=..., dhcp_domain=...)``, mounted at ``""``."""

    name = "metadata"

    def __init__(
        self, by_id: Find, by_address: Find, *, secret: str | None = None, dhcp_domain: str = "novalocal"
    ) -> None:
        """`secret`: [neutron] metadata_proxy_shared_secret when a proxy signs; None: by source address."""
        self._by_id, self._by_address, self._secret = by_id, by_address, secret
        self._domain = dhcp_domain

    async def handle(self, request: Request, path: str) -> Response:
        if request.method not in ("GET", "HEAD"):
            raise MethodNotAllowed("The method is not allowed for this resource.", headers={"allow": "GET, HEAD"})
        parts = [part for part in path.split("/") if part not in ("", ".")]
        if ".." in parts:
            raise NotFound("Not found.")
        request.route = "/openstack" if parts[:1] == ["openstack"] else "/"
        if not parts:
            return _lines(EC2_VERSIONS)
        server = await self._find(request)
        if parts[0] == "openstack":
            return self._openstack(server, parts[1:])
        return self._ec2(server, parts[1:] if parts[0] == "ec2" else parts)

    def fault(self, request: Request, error: HttpError) -> Response:
        return Response(error.status, f"{error.message}\n".encode(), dict(error.headers), media=_PLAIN)

    async def _find(self, request: Request) -> Server:
        if self._secret is None:
            server = await self._by_address(request.client)
        else:
            server = await self._find_signed(request, self._secret)
        if server is None:
            raise NotFound("There is no such server.")
        return server

    async def _find_signed(self, request: Request, secret: str) -> Server | None:
        instance, tenant, signature = (request.headers.get(name, "") for name in _SIGNED)
        if not instance or not tenant or not signature or "," in instance:
            raise BadRequest("X-Instance-ID, X-Tenant-ID and X-Instance-ID-Signature are needed once each.")
        expected = hmac.new(secret.encode(), instance.encode("latin-1"), "sha256").hexdigest()
        if not hmac.compare_digest(expected.encode(), signature.encode("latin-1")):
            raise Forbidden("The signature is not valid.")
        server = await self._by_id(instance)
        return server if server is not None and server.project_id == tenant else None

    def _openstack(self, server: Server, parts: list[str]) -> Response:
        if not parts:
            return _lines(document.VERSIONS)
        version = parts[0]
        if version not in document.VERSIONS or len(parts) > 2:
            raise NotFound("Not found.")
        data = document.user_data(server)
        names = [name for name, since in _SINCE.items() if version == "latest" or since <= version]
        if data is None:
            names.remove("user_data")
        if len(parts) == 1:
            return _lines(names)
        wanted = parts[1]
        if wanted == "network_data.json":  # answered at every version, as Nova does
            return Response(200, _encode(document.network_data(server)), media=_PLAIN)
        if wanted not in names:
            raise NotFound("Not found.")
        if wanted == "user_data":
            return Response(200, data or b"", media=_PLAIN)
        content: dict[str, Any] = {"static": {}} if wanted == "vendor_data2.json" else {}
        if wanted == "meta_data.json":
            content = document.meta_data(server, dhcp_domain=self._domain)
        return Response(200, _encode(content), media=_JSON)

    def _ec2(self, server: Server, parts: list[str]) -> Response:
        if not parts:
            return _lines(EC2_VERSIONS)
        if parts[0] not in EC2_VERSIONS:
            raise NotFound("Not found.")
        data = document.user_data(server)
        if len(parts) == 1:
            return _lines(["meta-data/", *(["user-data"] if data is not None else [])])
        if parts[1:] == ["user-data"] and data is not None:
            return Response(200, data, media=_PLAIN)
        if parts[1] != "meta-data":
            raise NotFound("Not found.")
        return _walk(document.ec2_meta_data(server), parts[2:])


def _walk(tree: Any, parts: list[str]) -> Response:
    """A leaf as text, a branch as its list; a branch with a `_name` is shown under it."""
    for part in parts:
        if not isinstance(tree, dict) or part.startswith("_") or part not in tree:
            raise NotFound("Not found.")
        tree = tree[part]
    if not isinstance(tree, dict):
        return Response(200, str(tree).encode(), media=_PLAIN)
    return _lines([
        (value.get("_name") or f"{key}/") if isinstance(value, dict) else key
        for key, value in tree.items()
        if not key.startswith("_")
    ])  # fmt: skip


def _lines(names: Any) -> Response:
    return Response(200, "\n".join(names).encode(), media=_PLAIN)
