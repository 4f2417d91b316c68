"""Every statement that the product holds as a constant, and databases with rows in all tables."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Column, Double, LargeBinary, String, Table, Text

import kilonova
from kilonova.db.schema.everything import COLLECTIONS, tables_of
from kilonova.db.statement import Statement

SMALL = {
    "aggregates", "aggregate_hosts", "availability_zones", "flavors", "flavor_access", "quota_limits", "relays",
    "owners", "traits", "resource_classes", "cells",
}  # fmt: skip
"""Tables whose size an operator chooses and not the load: reading all of them is fine."""

PER_HOST = {
    "hosts", "services", "resource_providers", "inventories", "provider_traits", "provider_aggregates",
}  # fmt: skip
"""Tables that grow with the hosts: reading all of them is fine, reading all to find a few is not."""

ROWS, FEW = 1500, 10
_NOT_SQL_OF_OURS = {"kilonova.db.postgres_tx"}
_WORDS = re.compile(r"\b(?:FROM|JOIN|UPDATE|INTO)\s+(\w+)(?:\s+(?:AS\s+)?(\w+))?", re.IGNORECASE)
_KEYWORDS = {"set", "where", "on", "order", "limit", "values", "join", "left", "select", "group", "union", "inner"}


def all_statements() -> dict[str, Statement]:
    """Return them by ``module.NAME``."""
    found: dict[str, Statement] = {}
    for name in _modules_with_sql():
        module = importlib.import_module(name)
        for key, value in vars(module).items():
            for suffix, statement in _within(value):
                if getattr(statement, "sql", None) and f"{statement.sql}" not in {s.sql for s in found.values()}:
                    found[f"{name}.{key}{suffix}"] = statement
    return found


def _modules_with_sql() -> Iterator[str]:
    root = Path(kilonova.__path__[0])
    for module in pkgutil.walk_packages(kilonova.__path__, "kilonova."):
        path = root.joinpath(*module.name.split(".")[1:]).with_suffix(".py")
        if path.is_file() and "Statement(" in path.read_text() and module.name not in _NOT_SQL_OF_OURS:
            yield module.name


def _within(value: Any) -> Iterator[tuple[str, Statement]]:
    if isinstance(value, Statement):
        yield "", value
    elif isinstance(value, dict):
        for key, item in value.items():
            if isinstance(item, Statement):
                yield f"[{key!r}]", item
    elif isinstance(value, (tuple, list)):
        for i, item in enumerate(value):
            if isinstance(item, Statement):
                yield f"[{i}]", item


def tables_in(statement: Statement) -> dict[str, str]:
    """Return the tables by the names that the statement gives them."""
    names = {}
    for table, alias in _WORDS.findall(statement.sql):
        names[table] = table
        if alias and alias.lower() not in _KEYWORDS:
            names[alias] = table
    return names


def all_tables() -> list[Table]:
    return [table for name in COLLECTIONS for table in tables_of(name).sorted_tables]


def filling(table: Table) -> tuple[str, list[tuple[Any, ...]]]:
    """Return an INSERT (with ``?``) and rows for it: keys differ, other columns repeat."""
    names = ", ".join(column.name for column in table.columns)
    marks = ", ".join("?" for _ in table.columns)
    unique = {c for i in table.indexes if i.unique for c in i.columns} | set(table.primary_key.columns)
    unique |= {c for c in table.columns if c.unique}
    count = FEW if table.name in SMALL else ROWS
    rows = [tuple(_value(c, i if c in unique else i % 97) for c in table.columns) for i in range(1, count + 1)]
    return f"INSERT INTO {table.name} ({names}) VALUES ({marks})", rows


def _value(column: Column[Any], i: int) -> Any:
    if column.nullable and i % 2:
        return None
    if isinstance(column.type, (String, Text)):
        return f"{i:x}"
    if isinstance(column.type, LargeBinary):
        return b"%x" % i
    return float(i) if isinstance(column.type, Double) else i


def may_be_read_whole(statement: Statement) -> set[str]:
    """Return the tables of which this statement may read every row."""
    return SMALL if " WHERE " in statement.sql else SMALL | PER_HOST
