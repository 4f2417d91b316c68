"""An identity service of one's own, asked over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from argon2 import PasswordHasher
from identity_cloud import Cloud, opened

from kilonova.db.open import Databases
from kilonova.identity import passwords


@pytest.fixture(autouse=True)
def _cheap_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real argon2 with little work: a hash says itself how it is checked."""
    cheap = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
    monkeypatch.setattr(passwords, "_hasher", lambda: cheap)


@pytest.fixture
async def cloud(databases: Databases, tmp_path: Path) -> AsyncIterator[Cloud]:
    """The service after its first start."""
    async with opened(databases, tmp_path) as found:
        yield found
