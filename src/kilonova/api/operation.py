"""An operation of the API is one declaration and one function.

The declaration says where it is (method, path, action), since and until when, who may (policy rule),
what goes in (body, query) and how success is numbered; the function gets a `Call` whose input has been
checked against it and returns what to send. Routing, versions, faults and documents are made from the
declarations; functions hold no ``if version``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from msgspec import Struct

from kilonova.api.microversion.fields import Body
from kilonova.api.microversion.version import LATEST, OLDEST
from kilonova.api.services import ApiServices
from kilonova.http.errors import Forbidden
from kilonova.http.message import Request
from kilonova.model.credentials import Credentials
from kilonova.policy.enforcer import Enforcer

ANYONE = ""
"""The rule of operations that ask for a valid token and nothing more."""
WEIGHED = "*"
"""The function itself asks the policy, about what it found (a server's project, a key's user)."""


class Call:
    """One request for one operation, as its function sees it."""

    __slots__ = ("body", "creds", "operation", "params", "query", "relaxed", "request", "services", "version")

    def __init__(
        self, services: ApiServices, request: Request, operation: Operation, version: int, relaxed: bool, body: Any
    ) -> None:
        self.services, self.request, self.operation = services, request, operation
        self.version, self.relaxed, self.body = version, relaxed, body
        self.creds: Credentials = request.credentials
        self.params = request.params
        self.query: dict[str, list[str]] = {}
        """Query parameters by name, values in order."""

    def __repr__(self) -> str:
        return f"<Call {self.operation.method} {self.operation.path} 2.{self.version}>"

    @property
    def policy(self) -> Enforcer:
        return self.services.policy

    @property
    def project_id(self) -> str:
        """The caller's project; "" for tokens that have none."""
        return self.creds.project_id or ""

    def one(self, name: str) -> str | None:
        """The last value of a query parameter."""
        values = self.query.get(name)
        return values[-1] if values else None

    def has(self, facet: str) -> bool:
        """Whether a declared difference in behaviour holds in this version."""
        span = self.operation.facets[facet]
        return span.since <= self.version <= span.until

    def authorize(self, rule: str, target: Mapping[str, str] | None = None) -> None:
        """Raise Forbidden unless the caller meets `rule` for `target` (default: the caller's own project)."""
        if not self.services.policy.check(rule, self.creds, target):
            raise Forbidden(f"Policy doesn't allow {rule} to be performed.")

    def may(self, rule: str, target: Mapping[str, str] | None = None) -> bool:
        """Whether the caller meets `rule`."""
        return self.services.policy.check(rule, self.creds, target)


Function = Callable[[Call], Awaitable[Any]]
"""Returns a Response, or what the body's JSON is made of, or None for no body."""


class Span(NamedTuple):
    """Versions from `since` to `until`, both included."""

    since: int = OLDEST
    until: int = LATEST


class Operation(Struct, frozen=True, kw_only=True):
    """One row of the API."""

    method: str
    path: str
    """Below the version and project: ``/servers/{id}``."""
    function: Function
    rule: str
    """Policy rule checked before the function for the caller's own project; or ANYONE, or WEIGHED."""
    action: str | None = None
    since: int = OLDEST
    until: int = LATEST
    body: Body | None = None
    query: Body | None = None
    facets: Mapping[str, Span] = {}
    """Named differences in behaviour, each with the versions it holds in; see `Call.has`."""
    success: int | Mapping[int, int] = 200
    """The status, or statuses by the version since when they hold."""

    def status(self, version: int) -> int:
        """The status of success in `version`."""
        if isinstance(self.success, int):
            return self.success
        return self.success[max(since for since in self.success if since <= version)]

    def lives(self, version: int) -> bool:
        """Whether the operation exists in `version`."""
        return self.since <= version <= self.until


def operation(method: str, path: str, rule: str, **more: Any) -> Callable[[Function], Operation]:
    """Declare an operation above its function."""
    return lambda function: Operation(method=method, path=path, rule=rule, function=function, **more)
