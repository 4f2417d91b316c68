"""An identity service of one's own, asked over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from identity_cloud import Cloud, opened
from kilonova.db.open import Databases


@pytest.fixture
async def cloud(databases: Databases, tmp_path: Path) -> AsyncIterator[Cloud]:
    """The service after its first start."""
    async with opened(databases, tmp_path) as found:
        yield found
