"""Structs whose fields are the columns of a table: read, insert, change under a counter, delete, list.

For rooms with many plain records. The struct says all: its fields (by their encoded names) are the columns in any
order, the first is the key, `revision` is the counter that every change raises.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Generic, TypeVar

from msgspec import Struct
from msgspec.structs import fields

from kilonova.db.database import Tx
from kilonova.db.queries.listing import Listing
from kilonova.db.statement import Row, Statement, Value

T = TypeVar("T", bound=Struct)


class Records(Generic[T]):
    """``Records("networks", NetworkRow, order={...})``."""

    def __init__(self, table: str, kind: type[T], order: Mapping[str, str] | None = None) -> None:
        """`order`: sortable names -> SQL expressions that are never NULL."""
        self.table, self._kind = table, kind
        self._attributes = tuple((each.encode_name, each.name) for each in fields(kind))
        self.names = tuple(column for column, _ in self._attributes)
        self.columns = ", ".join(self.names)
        self.order = dict(order or {})
        key = self.names[0]
        changed = ", ".join(f"{n} = :{n}" for n in self.names if n not in (key, "revision", "created_at"))
        self.get = Statement(f"SELECT {self.columns} FROM {table} WHERE {key} = :id")
        self._insert = Statement(
            f"INSERT INTO {table} ({self.columns}) VALUES ({', '.join(':' + n for n in self.names)})"
        )
        self._update = Statement(
            f"UPDATE {table} SET {changed}, revision = revision + 1 WHERE {key} = :{key} AND revision = :revision"
        )
        self._delete = Statement(f"DELETE FROM {table} WHERE {key} = :id")

    def __repr__(self) -> str:
        return f"Records({self.table!r})"

    def row(self, row: Row) -> T:
        """From a row of `get` or of a `page`."""
        return self._kind(*row)

    def rows(self, rows: list[Row]) -> list[T]:
        """From rows: the `fold` of a scan."""
        return [self._kind(*row) for row in rows]

    async def find(self, tx: Tx, key: str) -> T | None:
        """Read within a transaction."""
        row = await tx.fetch_one(self.get, {"id": key})
        return None if row is None else self._kind(*row)

    async def insert(self, tx: Tx, record: T) -> bool:
        """False when a unique key is taken."""
        return await tx.insert_if_absent(self._insert, self._params(record))

    async def update(self, tx: Tx, record: T) -> bool:
        """Write what was read at ``record.revision``; False when it has changed or gone since."""
        return await tx.execute(self._update, self._params(record)) == 1

    async def delete(self, tx: Tx, key: str) -> bool:
        """False when there was none."""
        return await tx.execute(self._delete, {"id": key}) == 1

    def page(self) -> Listing:
        """An empty list query."""
        return Listing(self.columns, self.table, self.order, self.names[0])

    def _params(self, record: T) -> dict[str, Value]:
        return {column: getattr(record, name) for column, name in self._attributes}
