"""An image service over the databases that the run asks for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest_asyncio

from image.image_cloud import Cloud, open_cloud


@pytest_asyncio.fixture
async def cloud(databases: Any, tmp_path: Path) -> AsyncIterator[Cloud]:
    made = await open_cloud(databases, tmp_path)
    yield made
    await made.close()
