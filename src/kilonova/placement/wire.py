"""Placement's wire: microversions 1.0 to 1.39, its error form, cache headers, bodies checked against types.

A microversion is its minor number. Source: Placement's own rules (API-SIG microversion and error guidelines).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from email.utils import formatdate
from html import escape
from http import HTTPStatus
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from kilonova.http.errors import BadRequest, Conflict, HttpError, NotAcceptable, NotFound
from kilonova.http.message import Request, Response, json_response
from kilonova.placement.invalid import reason

OLDEST, LATEST = 0, 39
_KNOWN = {f"1.{minor}": minor for minor in range(OLDEST, LATEST + 1)} | {"latest": LATEST}
UNDEFINED = "placement.undefined_code"
CONCURRENT = "placement.concurrent_update"
IN_USE = "placement.inventory.inuse"
DUPLICATE_NAME = "placement.duplicate_name"
PROVIDER_IN_USE = "placement.resource_provider.inuse"
PROVIDER_IS_PARENT = "placement.resource_provider.cannot_delete_parent"
PROVIDER_NOT_FOUND = "placement.resource_provider.not_found"
DUPLICATE_KEY = "placement.query.duplicate_key"
BAD_VALUE = "placement.query.bad_value"
MISSING_VALUE = "placement.query.missing_value"

Uuid = Annotated[
    str,
    Meta(
        pattern="^[0-9a-fA-F]{8}-?([0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}$", extra_json_schema={"format": "uuid"}
    ),
]
Positive = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Natural = Annotated[int, Meta(ge=0, le=2**31 - 1)]
ResourceClass = Annotated[str, Meta(pattern="^[A-Z0-9_]+$", min_length=1, max_length=191)]
Resources = Annotated[dict[ResourceClass, Positive], Meta(min_length=1)]
T = TypeVar("T")


def negotiate(headers: Mapping[str, str]) -> int:
    """The version asked for; 1.0 when none is. Raises BadRequest (malformed), NotAcceptable (not served)."""
    for part in headers.get("openstack-api-version", "").split(","):
        service, _, text = part.strip().partition(" ")
        if service.lower() != "placement":
            continue
        version = _KNOWN.get(text.strip())
        if version is not None:
            return version
        major, dot, minor = text.strip().partition(".")
        if not (dot and major.isdigit() and minor.isdigit()):
            raise BadRequest(f"invalid version string: {text.strip()[:100]}")
        raise NotAcceptable(
            f"Unacceptable version header: {text.strip()[:100]}",
            extra={"min_version": f"1.{OLDEST}", "max_version": f"1.{LATEST}"},
        )
    return OLDEST


def version_headers(version: int) -> dict[str, str]:
    return {"openstack-api-version": f"placement 1.{version}", "vary": "openstack-api-version"}


def fault(request: Request, error: HttpError) -> Response:
    """An error as Placement words it; `code` from 1.23 on."""
    version = request.version if isinstance(request.version, int) else None
    body: dict[str, Any] = {
        "status": error.status,
        "request_id": request.request_id,
        "title": HTTPStatus(error.status).phrase,
        "detail": error.message,
        **error.extra,
    }
    if version is not None and version >= 23:
        body["code"] = error.code or UNDEFINED
    headers = dict(error.headers)
    if version is not None:
        headers |= version_headers(version)
    if request.headers.get("accept", "").strip() == "text/html":  # browsers, who ask for nothing else
        page = f"<html><body><h1>{error.status} {body['title']}</h1><p>{escape(error.message)}</p></body></html>"
        return Response(error.status, page.encode(), headers, media="text/html; charset=utf-8")
    return json_response({"errors": [body]}, error.status, headers)


def answer(request: Request, body: Any, updated_at: int | None = None, status: int = 200, **headers: str) -> Response:
    """A JSON answer with cache headers from 1.15 on; `updated_at`: microseconds, None = now."""
    if request.version >= 15:
        seconds = None if updated_at is None else updated_at / 1_000_000
        headers |= {"last-modified": formatdate(seconds, usegmt=True), "cache-control": "no-cache"}
    return json_response(body, status, headers)


def check(value: Any, kind: type[T]) -> T:
    """`value` (decoded JSON) as `kind`. Raises BadRequest that names the place."""
    try:
        return msgspec.convert(value, kind)
    except (msgspec.ValidationError, ValueError) as error:
        raise BadRequest(reason(value, kind, str(error))) from None


async def body_as(request: Request, kind: type[T]) -> T:
    """The request's JSON body as `kind`."""
    return check(await json_body(request), kind)


async def json_body(request: Request) -> Any:
    """The request's body, decoded."""
    if "content-type" not in request.headers:
        raise BadRequest("content-type header required")
    try:
        return await request.json()
    except BadRequest as error:
        raise BadRequest(f"Malformed JSON: {error.message}") from None


def canonical(uuid: str) -> str:
    """A uuid in lower case with its dashes."""
    digits = uuid.replace("-", "").lower()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def no_query(request: Request) -> None:
    """Refuse query parameters where there are none."""
    known_query(request, ())


def known_query(request: Request, names: Iterable[str], once: Iterable[str] = ()) -> dict[str, list[str]]:
    """Query parameters by name; BadRequest for unknown ones and for those of `once` that repeat."""
    allowed = set(names)
    found: dict[str, list[str]] = {}
    for name, value in request.query:
        if name not in allowed:
            raise BadRequest(f"Invalid query string parameters: Additional properties are not allowed ({name[:100]!r})")
        found.setdefault(name, []).append(value)
    for name in once:
        if len(found.get(name, ())) > 1:
            raise BadRequest(f"The query parameter {name} may be given once only.", code=DUPLICATE_KEY)
    return found


def no_provider(uuid: str, what: str = "") -> NotFound:
    return NotFound(f"No resource provider with uuid {uuid[:100]} found{what}", code=PROVIDER_NOT_FOUND)


def stale(what: str = "resource provider generation conflict") -> Conflict:
    return Conflict(what, code=CONCURRENT)
