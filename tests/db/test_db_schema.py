"""The tables as described, as migrated, and by the rules of the five storage types."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import BigInteger, Column, Double, Integer, LargeBinary, MetaData, String, Text, create_engine
from sqlalchemy.dialects import mysql, postgresql

from kilonova.db.migrate import ensure
from kilonova.db.migrations import HEAD
from kilonova.db.migrations.plan import plan, versions
from kilonova.db.schema.everything import COLLECTIONS, Collection, tables_of

KEY_LENGTH = 191
STORAGE = (BigInteger, Double, String, Text, LargeBinary)


def columns() -> list[Column[object]]:
    return [c for name in COLLECTIONS for table in tables_of(name).sorted_tables for c in table.columns]


def test_head_is_the_newest_version_file() -> None:
    assert versions() == [f"{n:04d}" for n in range(1, HEAD + 1)]


def test_table_names_are_unique_over_the_collections() -> None:
    names = [name for collection in COLLECTIONS for name in tables_of(collection).tables]
    assert len(names) == len(set(names))
    assert "schema_version" not in names


@pytest.mark.parametrize("kinds", [{"global"}, {"cell"}, {"global", "cell"}], ids=str)
def test_migrations_make_the_tables_that_are_described(tmp_path: Path, kinds: set[str]) -> None:
    asyncio.run(ensure(tmp_path / "x.db", kinds))  # type: ignore[arg-type]  # literals
    described = MetaData()
    for name in ("journal", *kinds):
        for table in tables_of(name).tables.values():  # type: ignore[arg-type]  # a literal
            table.to_metadata(described)
    engine = create_engine(f"sqlite:///{tmp_path}/x.db")
    with engine.connect() as connection:
        options = {"include_object": lambda _o, name, *_: name not in ("schema_version", "sqlite_sequence")}
        difference = compare_metadata(MigrationContext.configure(connection, opts=options), described)
    engine.dispose()
    assert difference == []


@pytest.mark.parametrize("collection", COLLECTIONS)
def test_plans_have_nothing_of_one_dialect(collection: Collection) -> None:
    for statement in plan("postgresql", collection, 0):
        for word in ("ENUM", "DEFAULT", "REFERENCES", "CASCADE", "JSON", "TIMESTAMP", "BOOLEAN", "NUMERIC"):
            assert f" {word}" not in statement, statement


def test_columns_are_of_the_storage_types() -> None:
    for column in columns():
        assert isinstance(column.type, STORAGE), column
        assert not isinstance(column.type, Integer) or isinstance(column.type, BigInteger), column
        assert column.default is None and column.server_default is None and not column.foreign_keys, column


def test_names_need_no_quotes() -> None:
    found = set()
    for column in columns():
        for dialect in (postgresql.dialect(), mysql.dialect()):
            if dialect.identifier_preparer.quote(column.name) != column.name:
                found.add(str(column))
    assert not found


def test_indexed_text_is_short() -> None:
    """A longer one needs a column with its SHA-256 (contracts: SQL)."""
    found = set()
    for name in COLLECTIONS:
        for table in tables_of(name).sorted_tables:
            for column in {c for i in table.indexes for c in i.columns} | set(table.primary_key.columns):
                if isinstance(column.type, String) and not 0 < (column.type.length or 0) <= KEY_LENGTH:
                    found.add(str(column))
    assert not found
