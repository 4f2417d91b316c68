"""Neutron's error types, by name, as HTTP errors: clients and Nova tell refusals apart by `type`."""

from __future__ import annotations

from kilonova.http.errors import BadRequest, Conflict, Forbidden, HttpError, NotFound, NotImplementedHere
from kilonova.network.allocation import AddressTaken, NoAddress
from kilonova.network.port import NetworkConflict, NetworkError, NetworkNotFound

# What a type is called when the raiser named none.
BY_STATUS = {
    400: "HTTPBadRequest", 401: "HTTPUnauthorized", 403: "HTTPForbidden", 404: "HTTPNotFound",
    405: "HTTPMethodNotAllowed", 409: "HTTPConflict",
    413: "HTTPRequestEntityTooLarge", 415: "HTTPUnsupportedMediaType",
    501: "HTTPNotImplemented", 503: "HTTPServiceUnavailable",
}  # fmt: skip
_NOT_FOUND = {
    "network": "NetworkNotFound", "subnet": "SubnetNotFound", "port": "PortNotFound",
    "security_group": "SecurityGroupNotFound", "security_group_rule": "SecurityGroupRuleNotFound",
}  # fmt: skip


def missing(member: str, key: str) -> NotFound:
    """There is no such thing, or none that the caller may see."""
    words = member.replace("_", " ").capitalize()
    return NotFound(f"{words} {key[:100]} could not be found.", code=_NOT_FOUND.get(member, ""))


def invalid(message: str) -> BadRequest:
    return BadRequest(f"Invalid input for operation: {message}.", code="InvalidInput")


def bad(message: str) -> BadRequest:
    return BadRequest(message, code="HTTPBadRequest")


def denied(what: str) -> Forbidden:
    return Forbidden(f"{what} is disallowed by policy.", code="PolicyNotAuthorized")


def conflict(kind: str, message: str) -> Conflict:
    """409 of a certain type."""
    return Conflict(message, code=kind)


def over_quota(resource: str) -> Conflict:
    return conflict("OverQuota", f"Quota exceeded for resources: ['{resource}'].")


def absent(what: str) -> NotImplementedHere:
    """Neutron has it, the embedded service has not."""
    return NotImplementedHere(
        f"The embedded network service has no {what}; configure a real Neutron for that.", code="HTTPNotImplemented"
    )


def translated(error: NetworkError) -> HttpError:
    """The service's own errors on the wire."""
    if isinstance(error, NoAddress):
        return conflict("IpAddressGenerationFailure", str(error))
    if isinstance(error, AddressTaken):
        return conflict("IpAddressAlreadyAllocated", str(error))
    if isinstance(error, NetworkConflict):
        return conflict("IpAddressInUse", str(error))
    if isinstance(error, NetworkNotFound):
        return NotFound(str(error), code="NetworkNotFound")
    return BadRequest(str(error), code="InvalidIpForNetwork")
