"""Faults in the Compute API's wire format: one member named after the status, with code and message."""

from __future__ import annotations

from kilonova.http.errors import HttpError
from kilonova.http.message import Request, Response, json_response

_NAMES = {
    400: "badRequest", 401: "unauthorized", 403: "forbidden", 404: "itemNotFound", 405: "badMethod",
    409: "conflictingRequest", 413: "overLimit", 415: "badMediaType", 429: "overLimit", 501: "notImplemented",
    503: "serviceUnavailable",
}  # fmt: skip


def render(error: HttpError, request: Request, auth_uri: str) -> Response:
    """`error` as an answer."""
    if error.status == 401:
        headers = {"www-authenticate": f'Keystone uri="{auth_uri}"', **error.headers}
        body = {"error": {"code": 401, "title": "Unauthorized", "message": _UNAUTHORIZED}}
        return json_response(body, 401, headers)
    if error.status == 406:
        # The guideline's form, not Nova's usual one; the range is in the message.
        return json_response({"computeFault": {"code": 406, "message": error.message}}, 406, dict(error.headers))
    name = _NAMES.get(error.status, "computeFault")
    fault = {"code": error.status, "message": error.message}
    if error.status in (413, 429) and "retry-after" in error.headers:
        fault["retryAfter"] = error.headers["retry-after"]
    return json_response({name: fault}, error.status, dict(error.headers))


_UNAUTHORIZED = "The request you have made requires authentication."
