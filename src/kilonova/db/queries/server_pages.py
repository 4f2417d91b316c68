"""Pages of servers: one statement a database, whatever is shown.

Arms of a statement are read each by its own index and merged by the caller: servers of the cell, archived
ones where asked for, and (where the global database is the same one) those that have no cell yet, which
come as the request they were made of. A page goes on after the sort values of its marker (keyset).
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from functools import lru_cache
from typing import Any, cast

import msgspec
from msgspec import Struct

from kilonova.db.statement import Row, Statement
from kilonova.model.server import Server

COLUMNS = Server.__struct_fields__
UNPLACED_MOST = 5000
"""Servers without a cell that one page looks at; they are few, and soon placed."""

# Fields are read by attribute as on Server, which takes ten times as long to make.
_Row = namedtuple("_Row", COLUMNS)  # type: ignore[misc]
_make = cast("Callable[[Row], Server]", _Row._make)
_WIDTH = len(COLUMNS)
_server = msgspec.json.Decoder(Server).decode

_TEXT_OR_NULL = frozenset(
    {
        "description", "task_state", "host", "node", "availability_zone", "key_name", "root_device_name",
        "locked_by", "pinned_zone",
    }
)  # fmt: skip
_TIME_OR_NULL = frozenset({"launched_at", "terminated_at", "deleted_at"})
_NUMBERS = frozenset(
    {
        "number", "power_state", "progress", "vcpus", "memory_mb", "root_gb", "ephemeral_gb", "config_drive",
        "launch_index", "next_number", "host_number", "generation", "created_at", "updated_at", *_TIME_OR_NULL,
    }
)  # fmt: skip
_HEAVY = ("user_data", "key_data")
_BRIEF = frozenset({"uuid", "name", "project_id", "created_at"})

ARCHIVED = Statement(f"SELECT {', '.join(COLUMNS)} FROM servers_archive WHERE uuid = :uuid")


class Shape(Struct, frozen=True):
    """What makes two pages the same statement."""

    placed: bool
    """Read the cell's tables."""
    unplaced: bool
    """Read the server index."""
    archive: str
    """`no`, `also`, `only`."""
    owned: bool
    """Only of :project_id."""
    where: tuple[str, ...]
    """Conditions on the cell's columns."""
    sort: tuple[tuple[str, bool], ...]
    """(column, descending); ends with the uuid."""
    marker: bool
    columns: frozenset[str] | None = None
    """Needed beside what sorting needs; None = all but the heavy ones."""
    heavy: bool = False
    """Read user data as well."""


@lru_cache(maxsize=512)
def statement(shape: Shape) -> Statement:
    """The statement of a shape; parameters: its own, :limit, :project_id, :m0, :m1 ..."""
    arms = []
    if shape.placed and shape.archive != "only":
        arms.append(_arm("servers", shape))
    if shape.placed and shape.archive != "no":
        arms.append(_arm("servers_archive", shape))
    if shape.unplaced:
        arms.append(_index_arm(shape))
    return Statement(" UNION ALL ".join(f"SELECT * FROM ({arm}) AS arm{i}" for i, arm in enumerate(arms)))


def _arm(table: str, shape: Shape) -> str:
    wanted = shape.columns
    sorted_by = {column for column, _ in shape.sort}
    shown = []
    for column in COLUMNS:
        keep = wanted is None or column in wanted or column in sorted_by or column in _BRIEF
        if column in _HEAVY and not (shape.heavy and column == "user_data"):
            keep = False
        shown.append(column if keep else f"{_null(column)} AS {column}")
    where = list(shape.where)
    if shape.owned:
        where.append("project_id = :project_id")
    if shape.marker:
        where.append(_after(shape.sort))
    clause = f" WHERE {' AND '.join(where)}" if where else ""
    order = ", ".join(f"{_sortable(column)} {'DESC' if down else 'ASC'}" for column, down in shape.sort)
    shown.append("CAST(NULL AS TEXT) AS request")
    return f"SELECT {', '.join(shown)} FROM {table}{clause} ORDER BY {order} LIMIT :limit"


def _index_arm(shape: Shape) -> str:
    columns = ", ".join("uuid" if column == "uuid" else f"{_null(column)} AS {column}" for column in COLUMNS)
    owned = " AND project_id = :project_id" if shape.owned else ""
    return f"SELECT {columns}, request FROM server_index WHERE cell IS NULL{owned} LIMIT {UNPLACED_MOST}"


def _null(column: str) -> str:
    """Typed, since arms of a UNION must agree."""
    return "CAST(NULL AS BIGINT)" if column in _NUMBERS else "CAST(NULL AS TEXT)"


def _sortable(column: str) -> str:
    """NULLs sort as the empty value, the same on every database."""
    if column in _TEXT_OR_NULL:
        return f"COALESCE({column}, '')"
    return f"COALESCE({column}, 0)" if column in _TIME_OR_NULL else column


def _after(sort: tuple[tuple[str, bool], ...]) -> str:
    """Rows behind the marker :m0, :m1 ... in the order of `sort`."""
    choices = []
    for i, (column, down) in enumerate(sort):
        equal = [f"{_sortable(before)} = :m{j}" for j, (before, _) in enumerate(sort[:i])]
        choices.append(" AND ".join([*equal, f"{_sortable(column)} {'<' if down else '>'} :m{i}"]))
    first, down = sort[0]
    # The first key's bound stands alone as well: it is what an index can use.
    bound = f"{_sortable(first)} {'<=' if down else '>='} :m0"
    return f"{bound} AND ({' OR '.join(f'({choice})' for choice in choices)})"


def sort_values(server: Server, sort: tuple[tuple[str, bool], ...]) -> tuple[Any, ...]:
    """What a server sorts by."""
    values = []
    for column, _ in sort:
        value = getattr(server, column)
        if value is None:
            value = "" if column in _TEXT_OR_NULL else 0
        values.append(value)
    return tuple(values)


def behind(values: tuple[Any, ...], marker: tuple[Any, ...], sort: tuple[tuple[str, bool], ...]) -> bool:
    """Whether `values` come after `marker`."""
    for value, mark, (_, down) in zip(values, marker, sort, strict=True):
        if value != mark:
            return bool(value < mark) if down else bool(value > mark)
    return False


def unpack(rows: list[Row]) -> tuple[list[Server], list[Server]]:
    """(placed, unplaced) servers of a statement's rows."""
    placed, unplaced = [], []
    for row in rows:
        request = row[_WIDTH]
        if request is None:
            placed.append(_make(row[:_WIDTH]))
        else:
            unplaced.append(_server(request))
    return placed, unplaced


def one(row: Row) -> Server:
    """From a row of all columns in their order."""
    return _make(row)
