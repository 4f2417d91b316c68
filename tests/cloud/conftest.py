"""A cloud of sim hosts that tests of a module share."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from cloud_api import Account, account
from cloud_process import ROOT, CloudProcess, call, place, running_cloud

from kilonova.guestimage import build


@pytest.fixture(scope="session")
def client() -> None:
    """The official client is installed."""
    if not (ROOT / ".venv-client" / "bin" / "openstack").exists():
        done = call("openstack", "--version", timeout=300)
        assert (ROOT / ".venv-client" / "bin" / "openstack").exists(), done.stderr


@pytest.fixture(scope="module")
def cloud() -> Iterator[CloudProcess]:
    with place() as folder, running_cloud(folder / "cloud") as made:
        yield made


@pytest.fixture
async def demo(cloud: CloudProcess) -> AsyncIterator[Account]:
    """The account `demo`; its servers are deleted afterwards."""
    async with account(cloud) as made:
        yield made
        await made.delete_all()


@pytest.fixture(scope="session")
def guest_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the guest image, built once; KILONOVA_TEST_GUEST_CACHE keeps it from run to run."""
    kept = os.environ.get("KILONOVA_TEST_GUEST_CACHE")
    cache = Path(kept) if kept else tmp_path_factory.mktemp("guest-cache")
    build(tmp_path_factory.mktemp("guest") / "guest.qcow2", cache=cache, progress=lambda _what, _part: None)
    return cache
