"""The image port over a real Glance, as the API and the hosts hold it: visibility, and the bytes."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from real_services import Glance, Keystone

from kilonova.cli.compose.compute import RemoteImages, remote_images
from kilonova.cli.compose.neighbours import Neighbours, open_neighbours
from kilonova.compute.virt.driver import Refused, Transient
from kilonova.config import load
from kilonova.config.settings import Settings
from kilonova.db.open import Databases
from kilonova.image.port import ImageNotFound, ImageUnavailable
from kilonova.model.credentials import Credentials
from kilonova.pools import Pools

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
DATA = os.urandom((3 << 20) + 17)


@pytest.fixture
def settings(keystone: Keystone, glance: Glance, tmp_path: Path) -> Settings:
    """[service_user] alone: Glance is in the catalog."""
    account = f"auth_url = {keystone.url}\nusername = nova\npassword = {keystone.password}\nproject_name = service\n"
    file = tmp_path / "nova.conf"
    file.write_text(f"[keystone_authtoken]\n{account}[service_user]\n{account}[glance]\n{account}")
    return load([file], {}, {})


@pytest.fixture
async def around(settings: Settings, databases: Databases, tmp_path: Path) -> AsyncIterator[Neighbours]:
    pools = Pools()
    found = await open_neighbours(settings, databases, pools, folder=tmp_path)
    yield found
    await found.close()
    pools.close()


class Client:
    """A user of Glance."""

    def __init__(self, keystone: Keystone, glance: Glance, user: str, project: str) -> None:
        self.project = keystone.projects[project]
        self.creds = Credentials.make(keystone.users[user], ["member"], project_id=self.project)
        self._token, self._url = keystone.token(user, project), glance.url

    def ask(self, method: str, path: str, **more: Any) -> Any:
        headers = {"x-auth-token": self._token, **more.pop("headers", {})}
        got = httpx2.request(method, f"{self._url}/v2{path}", headers=headers, timeout=30, **more)
        assert got.status_code < 300, got.text
        return got.json() if got.content else None

    def image(self, **more: Any) -> str:
        made = self.ask("POST", "/images", json={
            "name": "an image", "disk_format": "raw", "container_format": "bare", "os_distro": "debian", **more
        })  # fmt: skip
        kind = {"content-type": "application/octet-stream"}
        self.ask("PUT", f"/images/{made['id']}/file", content=DATA, headers=kind)
        return str(made["id"])


@pytest.fixture
def users(keystone: Keystone, glance: Glance) -> tuple[Client, Client]:
    for name in ("owner", "other"):
        if name not in keystone.users:
            keystone.user(name, f"of-{name}", "member")
    return Client(keystone, glance, "owner", "of-owner"), Client(keystone, glance, "other", "of-other")


async def test_what_a_real_glance_shows(around: Neighbours, users: tuple[Client, Client]) -> None:
    owner, other = users
    image = owner.image(min_ram=64, min_disk=1)
    found = await around.images.show(image, owner.creds)
    assert (found.status, found.owner, found.size, found.min_ram, found.min_disk) == (
        "active", owner.project, len(DATA), 64, 1
    )  # fmt: skip
    assert found.hash_algo == "sha512" and found.hash_value and found.properties["os_distro"] == "debian"
    for hidden in (image, owner.image(visibility="private")):
        with pytest.raises(ImageNotFound):
            await around.images.show(hidden, other.creds)
    shared = owner.image()
    owner.ask("POST", f"/images/{shared}/members", json={"member": other.project})
    assert (await around.images.show(shared, other.creds)).id == shared
    community = owner.image(visibility="community")
    assert (await around.images.show(community, other.creds)).id == community
    with pytest.raises(ImageNotFound):
        await around.images.show("7b6ff5c2-6a3e-4d5b-8a4c-000000000000", owner.creds)


async def test_a_host_gets_the_bytes(settings: Settings, glance: Glance, users: tuple[Client, Client]) -> None:
    image = users[0].image(visibility="private")
    queued = users[0].ask("POST", "/images", json={"name": "no data"})["id"]
    source = remote_images(settings)
    assert isinstance(source, RemoteImages)
    try:
        assert b"".join([piece async for piece in source.open(image)]) == DATA
        for gone in (queued, "7b6ff5c2-6a3e-4d5b-8a4c-000000000000"):
            with pytest.raises(Refused):
                [piece async for piece in source.open(gone)]
        glance.stop()
        try:
            with pytest.raises(Transient):
                [piece async for piece in source.open(image)]
        finally:
            glance.start()
        assert b"".join([piece async for piece in source.open(image)]) == DATA
    finally:
        await source.close()


async def test_without_keystone_nothing_is_an_accident(
    around: Neighbours, keystone: Keystone, users: tuple[Client, Client]
) -> None:
    keystone.stop()
    try:
        with pytest.raises(ImageUnavailable):
            await around.images.show("7b6ff5c2-6a3e-4d5b-8a4c-000000000000", users[0].creds)
    finally:
        keystone.start()
