"""Where a database is: a file's path, or a connection URL as nova.conf spells it.

``/var/lib/kilonova/global.db``, ``sqlite:////var/lib/kilonova/global.db``,
``postgresql://user:secret@host/nova_api``, ``postgresql+psycopg2://...`` (the driver's name is ignored).
Passwords never leave through `str()` or `repr()`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

Dialect = Literal["sqlite", "postgresql"]


class Location(NamedTuple):
    """A parsed URL: `path` for SQLite, `dsn` for a server."""

    dialect: Dialect
    path: Path | None
    dsn: str

    def __repr__(self) -> str:
        return f"Location({self})"

    def __str__(self) -> str:
        if self.path is not None:
            return str(self.path)
        parts = urlsplit(self.dsn)
        return f"{parts.scheme}://{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}{parts.path}"


def locate(url: str | os.PathLike[str]) -> Location:
    """Parse a path or URL; ValueError for a kind of database that kilonova does not run on."""
    text = os.fspath(url)
    scheme, mark, rest = text.partition("://")
    if not mark:
        return Location("sqlite", Path(text).absolute(), "")
    kind = scheme.partition("+")[0]
    if kind == "sqlite":
        if not rest.startswith("/") or rest == "/":
            raise ValueError("a SQLite URL names a file: sqlite:////absolute/path")
        return Location("sqlite", Path(rest[1:].partition("?")[0]).absolute(), "")
    if kind in ("postgresql", "postgres"):
        return Location("postgresql", None, f"postgresql://{rest}")
    raise ValueError(f"no databases of kind {kind!r}: sqlite and postgresql are known")
