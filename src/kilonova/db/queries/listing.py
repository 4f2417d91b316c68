"""One page of a filtered, sorted list as one statement (keyset paging, no OFFSET).

Column names and conditions are constants of the caller's; values are always parameters. Statements of one
shape are compiled once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

from kilonova.db.statement import Statement, Value, in_list, in_values


@lru_cache(maxsize=512)
def _statement(sql: str) -> Statement:
    return Statement(sql)


class Listing:
    """Collects conditions, order and marker; `statement()` and `params` are the query.

    `order` maps sortable keys to SQL expressions that are never NULL (COALESCE nullable columns): NULLs sort
    differently everywhere, and a marker could not be compared with them. `unique` is the last key.
    """

    def __init__(self, columns: str, table: str, order: Mapping[str, str], unique: str = "id") -> None:
        self._columns, self.table, self._order, self._unique = columns, table, order, unique
        self._where: list[str] = []
        self._sort: list[tuple[str, bool]] = []
        self.params: dict[str, Value] = {}

    def where(self, condition: str, **params: Value) -> None:
        """Add a condition; parameter names must be the caller's own, or repeat the same value."""
        self._where.append(condition)
        self.params.update(params)

    def any_of(self, expression: str, values: Sequence[Value]) -> None:
        """`expression` is one of `values` (at most 1,000; none: the list is empty)."""
        if not values:
            self._where.append("1 = 0")
            return
        name = f"p{len(self.params)}"
        sql, _ = in_list(name, len(values))
        self._where.append(f"{expression} IN {sql}")
        self.params.update(in_values(name, list(values)))

    def sort(self, keys: Sequence[tuple[str, bool]]) -> None:
        """Order by (key of `order`, descending?) pairs, then by the unique column."""
        self._sort = [(self._order[key], desc) for key, desc in keys if key != self._unique or key in self._order]
        self._sort = list(dict.fromkeys(self._sort))
        last = self._sort[-1][1] if self._sort else False
        if not any(expression == self._unique for expression, _ in self._sort):
            self._sort.append((self._unique, last))

    def place(self, marker: str) -> tuple[Statement, dict[str, Value]]:
        """The statement that reads a marker's sort values, for `after`; no row: there is no such marker."""
        names = ", ".join(expression for expression, _ in self._sort)
        sql = f"SELECT {names} FROM {self.table} WHERE {self._unique} = :marker"
        return _statement(sql), {"marker": marker}

    def after(self, values: Sequence[Value], reverse: bool = False) -> None:
        """Only what follows the row with these sort values; `reverse`: what precedes it."""
        parts = []
        for i, (expression, desc) in enumerate(self._sort):
            same = [f"{self._sort[j][0]} = :after_{j}" for j in range(i)]
            beyond = f"{expression} {'<' if desc != reverse else '>'} :after_{i}"
            parts.append("(" + " AND ".join([*same, beyond]) + ")")
            self.params[f"after_{i}"] = values[i]
        self._where.append("(" + " OR ".join(parts) + ")")

    def statement(self, limit: int | None = None, reverse: bool = False) -> Statement:
        """The query; `reverse` reads backwards (turn the rows round)."""
        sql = f"SELECT {self._columns} FROM {self.table}"
        if self._where:
            sql += " WHERE " + " AND ".join(self._where)
        if self._sort:
            sql += " ORDER BY " + ", ".join(f"{e} {'DESC' if d != reverse else 'ASC'}" for e, d in self._sort)
        if limit is not None:
            sql += " LIMIT :page_limit"
            self.params["page_limit"] = limit
        return _statement(sql)
