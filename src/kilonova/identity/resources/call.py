"""What a handler of the identity API has in its hands."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from kilonova.http.errors import Forbidden
from kilonova.http.message import Request, Response
from kilonova.http.routing import Route
from kilonova.identity.directory import Decide
from kilonova.identity.state import State
from kilonova.identity.tokens import Token
from kilonova.model.credentials import Credentials

if TYPE_CHECKING:
    from kilonova.identity.service import Identity

T = TypeVar("T")


@dataclass(slots=True)
class Call:
    """One request, its bearer (None on open routes) and the service."""

    identity: Identity
    request: Request
    bearer: Token | None

    @property
    def state(self) -> State:
        return self.identity.directory.state

    @property
    def creds(self) -> Credentials:
        return self.request.credentials

    @property
    def now(self) -> int:
        """Microseconds UTC."""
        return self.identity.directory.clock()

    @property
    def base(self) -> str:
        """Where links start: ``http://host:port/identity/v3``."""
        return f"{self.identity.catalog.base_url or self.request.host_url}{self.request.mount}/v3"

    def param(self, name: str) -> str:
        return self.request.params[name]

    def allows(self, rule: str, **target: str | None) -> bool:
        """Whether the caller meets ``identity:<rule>`` for a target (missing keys match nobody)."""
        return self.identity.policy.check(f"identity:{rule}", self.creds, target)

    def authorize(self, rule: str, **target: str | None) -> None:
        """Raises Forbidden."""
        if not self.allows(rule, **target):
            raise Forbidden(f"You are not authorized to perform the requested action: identity:{rule}.")

    def only_domain(self, rule: str) -> str | None:
        """For lists: None = everything, else the one domain the caller may see. Raises Forbidden."""
        if self.allows(rule):
            return None
        own = self.creds.domain_id
        self.authorize(rule, target_domain_id=own)
        return own

    async def change(self, decide: Decide[T]) -> T:
        """`Directory.change`."""
        return await self.identity.directory.change(decide)

    async def member(self, name: str) -> dict[str, Any]:
        """The request's body `{name: {...}}`. Raises BadRequest."""
        from kilonova.identity.resources.body import mapping

        return mapping(mapping(await self.request.json(), "the body"), name, at=name)


Handler = Callable[[Call], Awaitable[Response]]


def route(method: str, path: str, handler: Handler, *, auth: bool = True) -> Route:
    """A route of the identity API; the face wraps `handler`, kept as the route's data."""
    return Route(method, f"/v3{path}", _never, auth, handler)


async def _never(request: Request) -> Response:
    raise AssertionError("handlers are run by the face")
