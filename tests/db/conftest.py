"""One suite over all kinds of database."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kilonova.db.database import Database
from kilonova.db.open import make_database
from kilonova.db.url import locate


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def db_url(request: pytest.FixtureRequest, tmp_path: Path, sqlite_template: Path) -> str:
    """Where a new database with all tables is."""
    if request.param == "postgres":
        make = request.getfixturevalue("make_postgres")
        url: str = make()
        return url
    return str(shutil.copy(sqlite_template, tmp_path / "all.db"))


@pytest.fixture
async def db(db_url: str) -> AsyncIterator[Database]:
    """An open database with all tables."""
    database = make_database(locate(db_url), "global")
    await database.open()
    yield database
    await database.close()
