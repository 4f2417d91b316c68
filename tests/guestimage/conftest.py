"""The guest image, built once for all tests that boot it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kilonova.guestimage import GuestImage, build


@pytest.fixture(scope="session")
def image_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the image is built; KILONOVA_TEST_GUEST_CACHE keeps it from run to run."""
    kept = os.environ.get("KILONOVA_TEST_GUEST_CACHE")
    return Path(kept) if kept else tmp_path_factory.mktemp("guest-cache")


@pytest.fixture(scope="session")
def image(image_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> GuestImage:
    """The guest image of this machine's distribution."""
    return build(
        tmp_path_factory.mktemp("guest") / "guest.qcow2", cache=image_cache, progress=lambda _what, _part: None
    )
