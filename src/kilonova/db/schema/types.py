"""The five storage types (contracts: SQL), spelled per dialect.

BIGINT, DOUBLE, VARCHAR/TEXT, BLOB; JSON is opaque text. Text compares by code point everywhere.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Column, Double, Integer, LargeBinary, String, Text
from sqlalchemy.types import TypeEngine


def _text(length: int | None) -> TypeEngine[str]:
    make: Any = String if length else Text
    args = (length,) if length else ()
    base: TypeEngine[str] = make(*args)
    return base.with_variant(make(*args, collation="C"), "postgresql").with_variant(
        make(*args, collation="utf8mb4_nopad_bin"), "mysql", "mariadb"
    )


def uuid(name: str, **kw: Any) -> Column[str]:
    """A lower-case UUID (or another id of at most 36 characters)."""
    return Column(name, _text(36), **{"nullable": False, **kw})


def text(name: str, length: int | None = 255, **kw: Any) -> Column[str]:
    """Text; `length` None for long text that is never a key."""
    return Column(name, _text(length), **{"nullable": False, **kw})


def json(name: str, **kw: Any) -> Column[str]:
    """Opaque JSON text, never queried."""
    return Column(name, _text(None), **{"nullable": False, **kw})


def bigint(name: str, **kw: Any) -> Column[int]:
    """A whole number; booleans are 0 and 1."""
    return Column(name, BigInteger(), **{"nullable": False, **kw})


def time(name: str, **kw: Any) -> Column[int]:
    """Microseconds since 1970, UTC."""
    return bigint(name, **kw)


def double(name: str, **kw: Any) -> Column[float]:
    return Column(name, Double(), **{"nullable": False, **kw})


def blob(name: str, **kw: Any) -> Column[bytes]:
    return Column(name, LargeBinary(), **{"nullable": False, **kw})


def serial(name: str = "id") -> Column[int]:
    """A number the database counts up: SQLite's rowid (never re-used), an identity elsewhere."""
    return Column(name, BigInteger().with_variant(Integer(), "sqlite"), primary_key=True, autoincrement=True)


__all__ = ["bigint", "blob", "double", "json", "serial", "text", "time", "uuid"]
