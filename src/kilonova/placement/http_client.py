"""A real Placement (or another kilonova's) behind the port: claims over HTTP at 1.28, candidates at 1.36.

A claim is PUT with a null consumer generation: it lands once or not at all. An answer that got lost is
looked up with GET; a conflict is too, since it may be our own earlier claim that stands in the way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import urlencode

import msgspec

from kilonova.model.placement import Claim, Claimed, Conflict
from kilonova.model.scheduling import Request
from kilonova.placement.port import Allocations, PlacementUnavailable, PlacementWrites


class HttpAnswer(Protocol):
    """What a transport gives back."""

    @property
    def status(self) -> int: ...

    @property
    def body(self) -> bytes: ...


class Transport(Protocol):
    """An authenticated way to Placement: adds the service's address and token, bounds the time."""

    async def __call__(self, method: str, path: str, headers: Mapping[str, str], body: bytes | None) -> HttpAnswer:
        """Raises OSError or TimeoutError when there is no answer."""


class HttpPlacement:
    """`PlacementPort` over HTTP."""

    writes: PlacementWrites | None = None

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    async def candidates(self, request: Request, limit: int = 1000) -> tuple[str, ...] | None:
        query = [("resources", ",".join(f"{name}:{n}" for name, n in sorted(request.resources.items())))]
        traits = [*sorted(request.required), *(f"!{name}" for name in sorted(request.forbidden))]
        if traits:
            query.append(("required", ",".join(traits)))
        query.append(("limit", str(limit)))
        status, body = await self._send("GET", f"/allocation_candidates?{urlencode(query, safe=':,!')}", 36)
        if status == 400:  # a class or trait it never heard of: nobody has it
            return ()
        self._expect(status, body, 200)
        return tuple(body["provider_summaries"])

    async def claim(self, wanted: Sequence[Claim]) -> Claimed | Conflict:
        bodies = {
            claim.consumer: {
                "allocations": {claim.provider: {"resources": claim.resources}},
                "project_id": claim.project_id,
                "user_id": claim.user_id,
                "consumer_generation": None,
            }
            for claim in wanted
        }
        try:
            if len(bodies) == 1:
                ((consumer, body),) = bodies.items()
                status, said = await self._send("PUT", f"/allocations/{consumer}", 28, body)
            else:
                status, said = await self._send("POST", "/allocations", 28, bodies)
        except PlacementUnavailable:
            if await self._all_held(wanted):
                return Claimed({})
            raise
        if status == 204:
            return Claimed({})
        if status in (400, 409):
            if await self._all_held(wanted):
                return Claimed({})
            error = said["errors"][0]
            named = [claim.provider for claim in wanted if claim.provider in error["detail"]]
            return Conflict(error["detail"], named[0] if named else "", error.get("code", ""))
        raise PlacementUnavailable(f"Placement answered {status} to a claim")

    async def release(self, consumer: str, now: int) -> None:
        status, body = await self._send("DELETE", f"/allocations/{consumer}", 28)
        if status != 404:
            self._expect(status, body, 204)

    async def move(self, wanted: Claim, holder: str) -> Claimed | Conflict:
        if await self._is_held(wanted):
            return Claimed({})
        shown = await self._show(wanted.consumer)
        if not shown["allocations"]:
            return await self.claim((wanted,))
        owner = {"project_id": shown["project_id"], "user_id": shown["user_id"]}
        kept = {p: {"resources": a["resources"]} for p, a in shown["allocations"].items()}
        bodies = {
            holder: {**owner, "allocations": kept, "consumer_generation": None},
            wanted.consumer: {
                **owner,
                "allocations": {wanted.provider: {"resources": wanted.resources}},
                "consumer_generation": shown["consumer_generation"],
            },
        }
        status, said = await self._send("POST", "/allocations", 28, bodies)
        if status == 204 or await self._is_held(wanted):
            return Claimed({})
        if status in (400, 409):
            error = said["errors"][0]
            return Conflict(error["detail"], wanted.provider, error.get("code", ""))
        raise PlacementUnavailable(f"Placement answered {status} to a move")

    async def held(self, consumer: str) -> Allocations:
        shown = await self._show(consumer)
        return {provider: dict(each["resources"]) for provider, each in shown["allocations"].items()}

    async def _show(self, consumer: str) -> Any:
        status, body = await self._send("GET", f"/allocations/{consumer}", 28)
        self._expect(status, body, 200)
        return body

    async def _is_held(self, claim: Claim) -> bool:
        return await self.held(claim.consumer) == {claim.provider: claim.resources}

    async def _all_held(self, wanted: Sequence[Claim]) -> bool:
        return all([await self._is_held(claim) for claim in wanted])

    async def _send(self, method: str, path: str, version: int, body: Any = None) -> tuple[int, Any]:
        headers = {"openstack-api-version": f"placement 1.{version}", "accept": "application/json"}
        encoded = None
        if body is not None:
            headers["content-type"] = "application/json"
            encoded = msgspec.json.encode(body)
        try:
            answer = await self._transport(method, path, headers, encoded)
            if answer.status >= 500 or answer.status in (401, 403):
                raise PlacementUnavailable(f"Placement answered {answer.status} to {method} {path.partition('?')[0]}")
            return answer.status, msgspec.json.decode(answer.body) if answer.body else None
        except (OSError, TimeoutError, msgspec.DecodeError) as error:
            raise PlacementUnavailable(f"Placement did not answer {method}: {error}") from error

    @staticmethod
    def _expect(status: int, body: Any, wanted: int) -> None:
        if status != wanted:
            raise PlacementUnavailable(f"Placement answered {status}: {str(body)[:200]}")
