"""A global database for the scheduler as a service."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kilonova.db.database import Database
from kilonova.db.open import make_database
from kilonova.db.url import locate


@pytest.fixture
async def db(tmp_path: Path, sqlite_template: Path) -> AsyncIterator[Database]:
    database = make_database(locate(str(shutil.copy(sqlite_template, tmp_path / "global.db"))), "global")
    await database.open()
    yield database
    await database.close()
