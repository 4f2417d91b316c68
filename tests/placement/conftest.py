"""A global database with Placement's tables, and hosts in it."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kilonova.db.database import Database, Tx
from kilonova.db.open import make_database
from kilonova.db.url import locate
from kilonova.model.placement import HostReport, Ratios
from kilonova.placement.face import PlacementFace
from kilonova.placement.inventory import Recorded, record_host
from placement.api import Api, Tokens
from placement.books import RecordHost, report


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
async def db(request: pytest.FixtureRequest, tmp_path: Path, sqlite_template: Path) -> AsyncIterator[Database]:
    url = (
        request.getfixturevalue("make_postgres")()
        if request.param == "postgres"
        else str(shutil.copy(sqlite_template, tmp_path / "global.db"))
    )
    database = make_database(locate(url), "global")
    await database.open()
    yield database
    await database.close()


@pytest.fixture
def record(db: Database) -> RecordHost:
    async def go(number: int, **changes: Any) -> Recorded:
        async def work(tx: Tx, each: HostReport) -> Recorded:
            return await record_host(tx, each, Ratios())

        return await db.write(work, report(number, **changes))

    return go


@pytest.fixture
async def api(db: Database) -> AsyncIterator[Api]:
    made = Api(PlacementFace(db, Tokens()))
    yield made
    await made.close()
