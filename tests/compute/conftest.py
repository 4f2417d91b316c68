from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from compute_cloud import Cloud, FakeDriver


@pytest.fixture
async def driver() -> FakeDriver:
    return FakeDriver("host-1")


@pytest.fixture
async def cloud(tmp_path: Path, driver: FakeDriver) -> AsyncIterator[Cloud]:
    made = Cloud(tmp_path, {"host-1": driver})
    await made.start()
    yield made
    driver.gate.set()
    if driver.cleaning:
        driver.cleaning.set()
    await made.stop()
