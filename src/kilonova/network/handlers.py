"""What the routes of the network API do, the same for every kind of record."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from msgspec import Struct
from msgspec.structs import asdict

from kilonova.db.database import Tx
from kilonova.db.queries import networks as queries
from kilonova.db.queries.networks import GROUPS, default_group_id
from kilonova.http.errors import NotFound
from kilonova.http.message import Request, Response, empty, json_response
from kilonova.network.addresses import decoded, encoded
from kilonova.network.allocation import LayoutChanged
from kilonova.network.attributes import checked
from kilonova.network.default_group import ensure_default_group
from kilonova.network.errors import absent, bad, denied, translated
from kilonova.network.paging import page, trimmed, wanted_fields
from kilonova.network.port import NetworkError
from kilonova.network.resource import TAGS, Ask, Change, Limits, Resource
from kilonova.network.service import EmbeddedNetwork

A = TypeVar("A")
R = TypeVar("R")
T = TypeVar("T", bound=Struct)
_MOST_AT_ONCE = 200


class Handlers:
    """Handlers over one `EmbeddedNetwork`."""

    def __init__(self, network: EmbeddedNetwork, limits: Limits) -> None:
        self.network, self.limits = network, limits

    async def write(self, f: Callable[[Tx, A], Awaitable[R]], args: A) -> R:
        """A transaction whose refusals are HTTP errors."""
        try:
            return await self.network.write(f, args)
        except NetworkError as error:
            raise translated(error) from None

    def ask(self, request: Request, values: dict[str, Any]) -> Ask:
        return Ask(
            creds=request.credentials, values=values, now=self.network.clock(), limits=self.limits,
            hints=self.network.hints,
        )  # fmt: skip

    async def index(self, resource: Resource[T], request: Request) -> Response:
        if resource.records is GROUPS:
            await self.default_group(request)
        return await page(resource, self.network.database, request)

    async def default_group(self, request: Request) -> None:
        """Make the caller's default security group before it is looked for."""
        project = request.credentials.project_id
        if not project:
            return
        if await self.network.database.fetch_one(GROUPS.get, {"id": default_group_id(project)}) is None:
            await self.network.write(_make_default_group, (project, self.network.clock()))

    async def show(self, resource: Resource[T], request: Request) -> Response:
        row = await resource.find(self.network.database, request.params["id"], request.credentials)
        return await self._answer(resource, request, row)

    async def create(self, resource: Resource[T], request: Request) -> Response:
        _may_write(request)
        body = await request.json()
        several = resource.members
        if not isinstance(body, dict) or not (resource.member in body or several in body):
            raise bad(f"Invalid input for resource: {resource.member} or {several} is missing in the body.")
        if several in body:
            bodies = body[several]
            if not isinstance(bodies, list) or not 0 < len(bodies) <= _MOST_AT_ONCE:
                raise bad(f"{several} must be a list of 1 to {_MOST_AT_ONCE} items.")
        else:
            bodies = [body[resource.member]]
        creds = request.credentials
        asks = [
            self.ask(request, checked(each, resource.attributes, resource.read_only, creds, True)) for each in bodies
        ]
        if not all(each.project for each in asks):
            raise bad("A project is needed: use a token with a project, or name one.")
        made = await self.write(_all(resource), asks)
        if several not in body:
            return await self._answer(resource, request, made[0], 201)
        extra = await resource.decorate(self.network.database, made) if resource.decorate is not None else {}
        views = [resource.view(row, creds.is_admin) for row in made]
        for view in views:
            view.update(extra.get(view["id"], {}))
        return json_response({several: views}, 201)

    async def update(self, resource: Resource[T], request: Request) -> Response:
        _may_write(request)
        body = await request.json()
        if not isinstance(body, dict) or resource.member not in body:
            raise bad(f"Invalid input for resource: {resource.member} is missing in the body.")
        values = checked(
            body[resource.member], resource.attributes, resource.read_only, request.credentials, False
        )
        assert resource.update is not None
        row = await self.write(resource.update, Change(request.params["id"], self.ask(request, values)))
        return await self._answer(resource, request, row)

    async def delete(self, resource: Resource[T], request: Request) -> Response:
        _may_write(request)
        await self.write(resource.delete, Change(request.params["id"], self.ask(request, {})))
        return empty()

    async def _answer(self, resource: Resource[T], request: Request, row: T, status: int = 200) -> Response:
        view = resource.view(row, request.credentials.is_admin)
        if resource.decorate is not None:
            view.update((await resource.decorate(self.network.database, [row]))[view["id"]])
        return json_response({resource.member: trimmed(view, wanted_fields(request))}, status)

    # tags

    async def tags(self, resource: Resource[T], request: Request) -> Response:
        row = await resource.find(self.network.database, request.params["id"], request.credentials)
        return json_response({"tags": _tags(row)})

    async def has_tag(self, resource: Resource[T], request: Request) -> Response:
        row = await resource.find(self.network.database, request.params["id"], request.credentials)
        if request.params["tag"] not in _tags(row):
            raise NotFound(f"Tag {request.params['tag'][:60]} could not be found.", code="TagNotFound")
        return empty()

    async def set_tags(self, resource: Resource[T], request: Request) -> Response:
        body = await request.json()
        if not isinstance(body, dict) or set(body) != {"tags"}:
            raise bad("Invalid tags body")
        wanted = TAGS(body["tags"], "tags")
        return json_response({"tags": await self._retag(resource, request, lambda _: wanted)})

    async def add_tag(self, resource: Resource[T], request: Request) -> Response:
        tag = request.params["tag"]
        await self._retag(resource, request, lambda tags: TAGS(list({*tags, tag}), "tags"))
        return empty(201)

    async def drop_tag(self, resource: Resource[T], request: Request) -> Response:
        tag = request.params["tag"]

        def without(tags: list[str]) -> list[str]:
            if tag not in tags:
                raise NotFound(f"Tag {tag[:60]} could not be found.", code="TagNotFound")
            return [each for each in tags if each != tag]

        await self._retag(resource, request, without)
        return empty()

    async def clear_tags(self, resource: Resource[T], request: Request) -> Response:
        await self._retag(resource, request, lambda _: [])
        return empty()

    async def _retag(
        self, resource: Resource[T], request: Request, edit: Callable[[list[str]], list[str]]
    ) -> list[str]:
        _may_write(request)
        creds, key, now = request.credentials, request.params["id"], self.network.clock()

        async def change(tx: Tx, _: None) -> list[str]:
            row: Any = await resource.own(tx, key, creds)
            found = sorted(edit(_tags(row)))
            row.tags, row.updated_at = encoded(found), now
            if not await resource.records.update(tx, row):
                raise LayoutChanged
            await queries.set_tags(tx, row.id, found)
            return found

        return await self.write(change, None)

    # quotas

    async def quota(self, request: Request) -> Response:
        self._own_quota(request)
        return json_response({"quota": self._limits()})

    async def quota_details(self, request: Request) -> Response:
        project = self._own_quota(request)
        rows = await self.network.database.fetch(queries.USAGES, {"project": project})
        used = {row[0]: row[1] for row in rows}
        shown = {
            name: {"limit": limit, "used": used.get(name, 0), "reserved": 0} for name, limit in self._limits().items()
        }
        return json_response({"quota": shown})

    async def quotas(self, request: Request) -> Response:
        """Limits that differ from the defaults: none can be set."""
        if not request.credentials.is_admin:
            raise denied("Listing quotas")
        return json_response({"quotas": []})

    async def no_quota_change(self, request: Request) -> Response:
        raise absent("quotas to change")

    def _own_quota(self, request: Request) -> str:
        project = request.params["id"]
        if project != request.credentials.project_id and not request.credentials.is_admin:
            raise denied("Reading another project's quota")
        return project

    def _limits(self) -> dict[str, int]:
        return {**asdict(self.limits), "router": 0, "floatingip": 0, "subnetpool": 0, "rbac_policy": 0, "trunk": 0}


def _may_write(request: Request) -> None:
    if not {"admin", "member"} & request.credentials.roles:
        raise denied("A change by a reader")


def _tags(row: Any) -> list[str]:
    found: list[str] = decoded(row.tags)
    return found


def _all(resource: Resource[T]) -> Callable[[Tx, list[Ask]], Awaitable[list[T]]]:
    async def create(tx: Tx, asks: list[Ask]) -> list[T]:
        return [await resource.create(tx, each) for each in asks]

    return create


async def _make_default_group(tx: Tx, args: tuple[str, int]) -> str:
    return await ensure_default_group(tx, *args)

