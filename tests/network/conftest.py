"""A network service over the databases that the run asks for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio

from network.network_cloud import Cloud, open_cloud


@pytest_asyncio.fixture
async def cloud(databases: Any) -> AsyncIterator[Cloud]:
    made = await open_cloud(databases)
    yield made
    await made.close()
