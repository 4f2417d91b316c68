from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from bus_worlds import MemoryWorld, World, ZeroMQWorld


@pytest.fixture(params=["memory", "zeromq"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    made: World = MemoryWorld() if request.param == "memory" else ZeroMQWorld(tmp_path)
    try:
        yield made
    finally:
        await made.close()


@pytest.fixture
async def two_conductors(tmp_path: Path) -> AsyncIterator[ZeroMQWorld]:
    made = ZeroMQWorld(tmp_path, two=True)
    try:
        yield made
    finally:
        await made.close()
