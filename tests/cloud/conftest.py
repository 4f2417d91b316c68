"""A cloud of sim hosts that tests of a module share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from cloud_api import Account, account
from cloud_process import ROOT, CloudProcess, call, place, running_cloud


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
