"""SQL text as data: written once with ``:name`` parameters, compiled once per dialect.

The text is the common subset of SQLite, PostgreSQL and MariaDB (contracts: SQL): no RETURNING, no
upsert, no dialect functions. Values are int, float, str, bytes or None; anything else is a bug here,
not a surprise in the database.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

Value = int | float | str | bytes | None
Params = Mapping[str, Value]
Row = tuple[Any, ...]

_PARAM = re.compile(r"'(?:[^']|'')*'|(?<![:\w]):([a-z_][a-z0-9_]*)")


class Statement:
    """One SQL statement. ``Statement("SELECT a FROM t WHERE b = :b")``.

    `scans` says why it may read a growing table from end to end (a load at start, an audit in slices);
    a test refuses one that does so without a reason.
    """

    __slots__ = ("_positional", "names", "scans", "sql")

    def __init__(self, sql: str, scans: str = "") -> None:
        self.scans = scans
        self.sql = " ".join(sql.split())
        self.names = tuple(dict.fromkeys(m.group(1) for m in _PARAM.finditer(self.sql) if m.group(1)))
        self._positional: dict[str, tuple[str, tuple[str, ...]]] = {}

    def __repr__(self) -> str:
        return f"Statement({self.sql!r})"

    def numbered(self) -> tuple[str, tuple[str, ...]]:
        """``$1, $2`` form (PostgreSQL) and the parameter names in that order."""
        form = self._positional.get("numbered")
        if form is None:
            index = {name: f"${i}" for i, name in enumerate(self.names, 1)}
            text = _PARAM.sub(lambda m: index[m.group(1)] if m.group(1) else m.group(0), self.sql)
            form = self._positional["numbered"] = (text, self.names)
        return form

    def percent(self) -> tuple[str, tuple[str, ...]]:
        """``%s`` form (MySQL drivers) and the names in order of appearance, repeated as they repeat."""
        form = self._positional.get("percent")
        if form is None:
            order: list[str] = []

            def put(m: re.Match[str]) -> str:
                if not m.group(1):
                    return m.group(0)
                order.append(m.group(1))
                return "%s"

            text = _PARAM.sub(put, self.sql.replace("%", "%%"))
            form = self._positional["percent"] = (text, tuple(order))
        return form


def in_list(name: str, count: int) -> tuple[str, tuple[str, ...]]:
    """``(:ids_0, :ids_1, ...)`` padded to a power of two, at most 1,000, and the parameter names.

    Pad the values by repeating the last one. Padding keeps the number of distinct statements small.
    """
    if not 0 < count <= 1000:
        raise ValueError(f"an IN list takes 1 to 1000 values, not {count}")
    size = min(1000, 1 << (count - 1).bit_length())
    names = tuple(f"{name}_{i}" for i in range(size))
    return "(" + ", ".join(":" + n for n in names) + ")", names


def in_values(name: str, values: list[Value]) -> dict[str, Value]:
    """Parameters for `in_list` of the same name and count."""
    _, names = in_list(name, len(values))
    return {n: values[min(i, len(values) - 1)] for i, n in enumerate(names)}
