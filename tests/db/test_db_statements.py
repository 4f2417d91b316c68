"""Every statement runs on every database, returns the five storage types, and scans no growing table."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from db.statements import all_statements, all_tables, filling, may_be_read_whole, tables_in
from kilonova.db.statement import Statement, in_list, in_values

STATEMENTS = all_statements()
BY_NAME = pytest.mark.parametrize("name", sorted(STATEMENTS))
RESULT_TYPES = {"int8", "int4", "float8", "text", "varchar", "bytea"}
FORBIDDEN = (" RETURNING ", " ON CONFLICT ", " SKIP LOCKED", " OR IGNORE ", " OR REPLACE ", " ILIKE ", " GLOB ")


@pytest.fixture(scope="module")
def filled(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    path = shutil.copy(sqlite_template, tmp_path_factory.mktemp("filled") / "all.db")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as con:
        con.execute("PRAGMA synchronous=OFF")
        con.execute("BEGIN")
        for table in all_tables():
            con.executemany(*filling(table))
        con.execute("COMMIT")
        con.execute("ANALYZE")
        yield con


@BY_NAME
def test_no_words_of_one_dialect(name: str) -> None:
    sql = f" {STATEMENTS[name].sql.upper()} "
    assert not [word for word in FORBIDDEN if word in sql]
    assert " LIKE " not in sql or " ESCAPE " in sql
    if " SUM(" in sql.replace("(SUM(", "( SUM("):
        assert "AS BIGINT)" in sql, "cast sums: PostgreSQL's are numeric"


@BY_NAME
def test_sqlite_finds_an_index(name: str, filled: sqlite3.Connection) -> None:
    statement = STATEMENTS[name]
    plan = filled.execute(f"EXPLAIN QUERY PLAN {statement.sql}", dict.fromkeys(statement.names)).fetchall()
    steps = [str(row[3]) for row in plan]
    tables = tables_in(statement)
    bounded = " LIMIT " in statement.sql and not any("TEMP B-TREE" in step for step in steps)
    seen = {tables[step.split()[1]] for step in steps if step.startswith("SCAN ") and step.split()[1] in tables}
    scanned = seen - may_be_read_whole(statement)
    if scanned and not bounded and not statement.scans:
        pytest.fail(f"reads all of {', '.join(sorted(scanned))}:\n{statement.sql}\n" + "\n".join(steps))


@pytest.fixture
async def server(postgres_server: Any) -> Any:
    con = await asyncpg.connect(postgres_server.url("tables"))
    yield con
    await con.close()


@pytest.mark.postgres
@BY_NAME
async def test_postgres_takes_it(name: str, server: asyncpg.Connection) -> None:
    """With sequential scans forbidden, one in the plan means that no index would do."""
    statement = STATEMENTS[name]
    sql, names = statement.numbered()
    prepared = await server.prepare(sql)
    assert {a.type.name for a in prepared.get_attributes()} <= RESULT_TYPES
    await server.execute("SET enable_seqscan = off; SET plan_cache_mode = force_generic_plan")
    await server.execute(f"PREPARE it AS {sql}")
    values = f"({', '.join('NULL' for _ in names)})" if names else ""
    (plan,) = json.loads(await server.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE it{values}"))
    scanned = set(sequential(plan["Plan"])) - may_be_read_whole(statement)
    if scanned and not statement.scans:
        pytest.fail(f"reads all of {', '.join(sorted(scanned))}:\n{statement.sql}")


def sequential(node: dict[str, Any]) -> Iterator[str]:
    if node["Node Type"] == "Seq Scan":
        yield node["Relation Name"]
    for child in node.get("Plans", ()):
        yield from sequential(child)


def test_statements_are_found() -> None:
    assert len(STATEMENTS) > 30


def test_forms_of_a_statement() -> None:
    statement = Statement("SELECT ':no', a::x\n FROM t WHERE b = :b AND c LIKE '%''x' AND d = :d OR :b = 'it'':s'")
    assert statement.names == ("b", "d")
    assert statement.numbered() == (
        "SELECT ':no', a::x FROM t WHERE b = $1 AND c LIKE '%''x' AND d = $2 OR $1 = 'it'':s'", ("b", "d"),
    )  # fmt: skip
    assert statement.percent() == (
        "SELECT ':no', a::x FROM t WHERE b = %s AND c LIKE '%%''x' AND d = %s OR %s = 'it'':s'", ("b", "d", "b"),
    )  # fmt: skip


@pytest.mark.parametrize(("count", "size"), [(1, 1), (2, 2), (3, 4), (5, 8), (513, 1000), (1000, 1000)])
def test_in_lists_are_padded(count: int, size: int) -> None:
    text, names = in_list("ids", count)
    values = in_values("ids", list(range(count)))
    assert len(names) == size and set(values) == set(names) and text.count(":") == size
    assert set(values.values()) == set(range(count))


@pytest.mark.parametrize("count", [0, 1001])
def test_in_lists_have_bounds(count: int) -> None:
    with pytest.raises(ValueError, match="1 to 1000"):
        in_list("ids", count)
