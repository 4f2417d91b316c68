"""`ImagePort`: the embedded service and the client of a real one keep the same promises."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from image.image_cloud import OTHER, TOKENS, Cloud
from image.live_server import serving
from kilonova.http.neighbour import Neighbour
from kilonova.image.client import GlanceClient
from kilonova.image.port import ImageNotFound, ImagePort, ImageUnavailable


class OwnTokens:
    """Gives a stale token first."""

    def __init__(self, *tokens: str) -> None:
        self.tokens = list(tokens)

    async def service_token(self) -> str:
        return self.tokens[0]

    def forget(self, token: str) -> None:
        if self.tokens[0] == token:
            self.tokens.pop(0)


@pytest_asyncio.fixture(params=["embedded", "real"])
async def port(request: pytest.FixtureRequest, cloud: Cloud) -> AsyncIterator[ImagePort]:
    if request.param == "embedded":
        yield cloud.images
        return
    async with serving(cloud.app) as url:
        glance = Neighbour("Glance", f"{url}/image", OwnTokens("stale", "admin"))
        yield GlanceClient(glance)
        await glance.close()


async def test_show(cloud: Cloud, port: ImagePort) -> None:
    image = await cloud.active(data=b"x" * 10, os_distro="debian", min_disk=2, min_ram=64)
    found = await port.show(image, TOKENS["member"])
    assert (found.id, found.name, found.status, found.size) == (image, "cirros", "active", 10)
    assert (found.min_disk, found.min_ram, found.properties) == (2, 64, {"os_distro": "debian"})
    assert found.hash_algo == "sha512" and len(found.hash_value or "") == 128


async def test_visibility(cloud: Cloud, port: ImagePort) -> None:
    shared = await cloud.active()
    with pytest.raises(ImageNotFound):
        await port.show(shared, TOKENS["other"])
    await cloud.call("POST", f"/images/{shared}/members", {"member": OTHER})
    assert (await port.show(shared, TOKENS["other"])).id == shared
    public = await cloud.active(who="admin", visibility="public")
    for who in ("member", "other", "admin"):
        assert (await port.show(public, TOKENS[who])).id == public
    private = await cloud.active(visibility="private")
    with pytest.raises(ImageNotFound):
        await port.show(private, TOKENS["other"])
    assert (await port.show(private, TOKENS["admin"])).id == private


@pytest.mark.parametrize("image", ["7b6ff5c2-6a3e-4d5b-8a4c-000000000000", "no uuid/../x", "é", ""])
async def test_missing(port: ImagePort, image: str) -> None:
    with pytest.raises(ImageNotFound):
        await port.show(image, TOKENS["admin"])
    with pytest.raises(ImageNotFound):
        [piece async for piece in port.open(image)]


async def test_open(cloud: Cloud, port: ImagePort) -> None:
    data = bytes(range(256)) * 10_000
    image = await cloud.active(data=data)
    pieces = [piece async for piece in port.open(image)]
    assert b"".join(pieces) == data and max(map(len, pieces)) <= 1 << 20
    queued = await cloud.new()
    with pytest.raises(ImageNotFound):
        [piece async for piece in port.open(queued)]


async def test_away() -> None:
    glance = Neighbour("Glance", "http://127.0.0.1:1", OwnTokens("admin"))
    client = GlanceClient(glance)
    with pytest.raises(ImageUnavailable):
        await client.show("x", TOKENS["member"])
    with pytest.raises(ImageUnavailable):
        [piece async for piece in client.open("x")]
    await glance.close()


async def test_no_token_is_away(cloud: Cloud) -> None:
    async with serving(cloud.app) as url:
        glance = Neighbour("Glance", f"{url}/image", OwnTokens("stale", "staler", "admin"))
        with pytest.raises(ImageUnavailable):
            await GlanceClient(glance).show("x", TOKENS["member"])
        await glance.close()
