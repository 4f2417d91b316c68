"""HTTP faults, in words; each face renders them in its own wire format.

::

    HttpError(status, message)
    +-- BadRequest 400, Unauthorized 401, Forbidden 403, NotFound 404, MethodNotAllowed 405
    +-- NotAcceptable 406, Conflict 409, Gone 410, TooLarge 413, UnsupportedMedia 415
    +-- Unprocessable 422, TooMany 429, NotImplementedHere 501, Unavailable 503
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class HttpError(Exception):
    """Ends the request with `status` and a message that names the field and the remedy."""

    status = 500

    def __init__(
        self,
        message: str,
        *,
        headers: Mapping[str, str] | None = None,
        code: str = "",
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        """`code`: a face's own stable code (Placement, Neutron's type); `extra`: more members of the fault body."""
        super().__init__(message)
        self.message, self.code = message, code
        self.headers = dict(headers or {})
        self.extra = dict(extra or {})


class BadRequest(HttpError):
    status = 400


class Unauthorized(HttpError):
    status = 401


class Forbidden(HttpError):
    status = 403


class NotFound(HttpError):
    status = 404


class MethodNotAllowed(HttpError):
    status = 405


class NotAcceptable(HttpError):
    status = 406


class Conflict(HttpError):
    status = 409


class Gone(HttpError):
    status = 410


class TooLarge(HttpError):
    status = 413


class UnsupportedMedia(HttpError):
    status = 415


class Unprocessable(HttpError):
    status = 422


class TooMany(HttpError):
    status = 429


class NotImplementedHere(HttpError):
    status = 501


class Unavailable(HttpError):
    """Overload, a full disk or a neighbour away: always with Retry-After."""

    status = 503

    def __init__(self, message: str, retry_after_s: int = 2, **kw: Any) -> None:
        super().__init__(message, **kw)
        self.headers.setdefault("retry-after", str(retry_after_s))
