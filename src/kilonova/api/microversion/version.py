"""Which microversion a request is answered in.

A microversion is its minor number (``53`` stands for 2.53); the major number is always 2. Source: the
API's negotiation rules (OpenStack API-SIG microversion guideline, Nova's two headers).
"""

from __future__ import annotations

from collections.abc import Mapping

from kilonova.http.errors import BadRequest, NotAcceptable

OLDEST = 1
LATEST = 104

_NEW, _OLD = "openstack-api-version", "x-openstack-nova-api-version"
VARY = "OpenStack-API-Version, X-OpenStack-Nova-API-Version"
_KNOWN = {f"2.{minor}": minor for minor in range(OLDEST, LATEST + 1)} | {"latest": LATEST}


def negotiate(headers: Mapping[str, str]) -> int:
    """The version asked for in `headers` (lower-case names); 2.1 when none is.

    Raises BadRequest (malformed), NotAcceptable (outside of 2.1 to the latest).
    """
    new = headers.get(_NEW)
    text = _of_compute(new) if new is not None else None
    if text is None:
        text = headers.get(_OLD)
        if text is None:
            return OLDEST
        text = text.strip()
    version = _KNOWN.get(text)
    return version if version is not None else _refuse(text)


def _of_compute(header: str) -> str | None:
    """``compute 2.53`` among what may be a list for several services."""
    for part in header.split(","):
        service, _, text = part.strip().partition(" ")
        if service.lower() in ("compute", "nova"):
            return text.strip()
    return None


def _refuse(text: str) -> int:
    major, dot, minor = text.partition(".")
    numeric = dot and major.isascii() and minor.isascii() and major.isdigit() and minor.isdigit()
    plain = numeric and major[0] != "0" and (minor[0] != "0" or minor == "0")
    if not plain or len(text) > 20:
        raise BadRequest(
            f"API Version String {text[:100]} is of invalid format. Must be of format MajorNum.MinorNum."
        )
    raise NotAcceptable(
        f"Version {text} is not supported by the API. Minimum is {spell(OLDEST)} and maximum is {spell(LATEST)}."
    )


def spell(version: int) -> str:
    """``2.53`` for 53."""
    return f"2.{version}"


def echo(version: int) -> dict[str, str]:
    """The response headers that say which version was used."""
    return _ECHO[version]


_ECHO = {
    minor: {
        "openstack-api-version": f"compute 2.{minor}",
        "x-openstack-nova-api-version": f"2.{minor}",
        "vary": VARY,
    }
    for minor in range(OLDEST, LATEST + 1)
}
