"""What the four kinds of network records have in common: a declaration each, from which the face serves them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import Struct

from kilonova.db.database import Database, Tx
from kilonova.db.queries import networks as queries
from kilonova.db.queries.listing import Listing
from kilonova.db.queries.records import Records
from kilonova.db.statement import Statement, Value
from kilonova.model.credentials import Credentials
from kilonova.network.allocation import Hints
from kilonova.network.attributes import Attribute, several, text
from kilonova.network.errors import denied, missing

T = TypeVar("T", bound=Struct)
Filter = Callable[[Listing, list[str]], None]
TAGS = several(text(60), 50)
ALWAYS_READ_ONLY = frozenset({"id", "created_at", "updated_at", "revision_number", "status"})


class Limits(Struct, frozen=True, kw_only=True):
    """Records a project; negative: unlimited. Ports that the compute service makes don't count: servers do."""

    network: int = 100
    subnet: int = 100
    port: int = 500
    security_group: int = 10
    security_group_rule: int = 100


class Ask(Struct, frozen=True, kw_only=True):
    """A checked request to create or change: `values` by attribute; what the transaction needs beside."""

    creds: Credentials
    values: Mapping[str, Any]
    now: int
    limits: Limits
    hints: Hints

    @property
    def project(self) -> str:
        """Whose the new record is."""
        return self.values.get("project_id") or self.creds.project_id or ""


class Change(Struct, frozen=True):
    """An update or a delete of one record."""

    id: str
    ask: Ask


class Resource(Generic[T]):
    """One kind: its names, attributes, view and transactions."""

    def __init__(
        self,
        member: str,
        collection: str,
        records: Records[T],
        *,
        attributes: Mapping[str, Attribute],
        read_only: frozenset[str] = frozenset(),
        view: Callable[[T, bool], dict[str, Any]],
        scope: str,
        columns: Mapping[str, str],
        flags: Mapping[str, str] | None = None,
        special: Mapping[str, Filter] | None = None,
        create: Callable[[Tx, Ask], Awaitable[T]],
        update: Callable[[Tx, Change], Awaitable[T]] | None,
        delete: Callable[[Tx, Change], Awaitable[None]],
        decorate: Callable[[Database, list[T]], Awaitable[dict[str, dict[str, Any]]]] | None = None,
    ) -> None:
        """`view`: (record, for an admin); `scope`: SQL for who is no admin, with ``:me``; `columns`, `flags`: filters
        by attribute; `decorate`: more members of views, by id.
        """
        self.member, self.collection, self.records = member, collection, records
        self.members = f"{member}s"
        """The key of lists in bodies."""
        self.attributes, self.read_only = attributes, ALWAYS_READ_ONLY | read_only
        self.view, self.scope = view, scope
        self.columns, self.flags, self.special = dict(columns), dict(flags or {}), dict(special or {})
        self.create, self.update, self.delete, self.decorate = create, update, delete, decorate
        self._visible = Statement(
            f"SELECT {records.columns} FROM {records.table} WHERE id = :id AND (1 = :admin OR {scope})"  # noqa: S608 - constants
        )

    def __repr__(self) -> str:
        return f"<Resource {self.collection}>"

    async def find(self, tx: Tx | Database, key: str, creds: Credentials) -> T:
        """The record if the caller may see it. Raises NotFound."""
        params: dict[str, Value] = {"id": key.lower(), "admin": int(creds.is_admin), "me": creds.project_id or ""}
        row = await tx.fetch_one(self._visible, params)
        if row is None:
            raise missing(self.member, key)
        return self.records.row(row)

    async def own(self, tx: Tx, key: str, creds: Credentials) -> T:
        """The record if the caller may change it. Raises NotFound, Forbidden."""
        found = await self.find(tx, key, creds)
        if not creds.is_admin and found.project_id != creds.project_id:  # type: ignore[attr-defined]  # all have it
            raise denied(f"Changing {self.member} {key}")
        return found


def base_view(row: Any) -> dict[str, Any]:
    """What every kind shows."""
    return {
        "id": row.id,
        "tenant_id": row.project_id,
        "project_id": row.project_id,
        "description": row.description,
        "revision_number": row.revision,
        "created_at": iso(row.created_at),
        "updated_at": iso(row.updated_at),
    }


def iso(micros: int) -> str:
    """``2026-01-31T09:00:00Z``."""
    return datetime.fromtimestamp(micros // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def raw(json: str) -> msgspec.Raw:
    """A JSON column passed through."""
    return msgspec.Raw(json.encode())


def by_tag(negate: bool, some: bool) -> Filter:
    """The filters tags, tags-any, not-tags and not-tags-any: comma-separated."""

    def apply(listing: Listing, values: list[str]) -> None:
        names = [each for value in values for each in value.split(",")][:50]
        parts = []
        for name in names:
            key = f"t{len(listing.params)}"
            parts.append(
                f"EXISTS (SELECT 1 FROM network_tags t WHERE t.resource_id = {listing.table}.id AND t.fact = :{key})"  # noqa: S608 - constants
            )
            listing.params[key] = queries.tag_fact(name)
        joined = (" OR " if some else " AND ").join(parts)
        listing.where(f"NOT ({joined})" if negate else f"({joined})")

    return apply


TAG_FILTERS: dict[str, Filter] = {
    "tags": by_tag(False, False),
    "tags-any": by_tag(False, True),
    "not-tags": by_tag(True, False),
    "not-tags-any": by_tag(True, True),
}
