"""Images read from a Glance v2 endpoint over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from kilonova.cli.compose.hosts import PortSource
from kilonova.compute.imagesource import PIECE
from kilonova.compute.virt.driver import DriverError, Refused, Transient
from kilonova.http.neighbour import Neighbour
from kilonova.image.client import GlanceClient

DATA = bytes(range(256)) * 10_000


class Glance:
    """One image under `good`; ids that are numbers answer with that status."""

    def __init__(self) -> None:
        self.tokens: list[str] = []
        self.url = ""

    async def file(self, request: web.Request) -> web.StreamResponse:
        self.tokens.append(request.headers["X-Auth-Token"])
        name = request.match_info["id"]
        if name == "good":
            return web.Response(body=DATA)
        if name == "expired" and request.headers["X-Auth-Token"] != "fresh":
            return web.Response(status=401)
        if name == "expired":
            return web.Response(body=b"x")
        if name == "cut":
            answer = web.StreamResponse(headers={"Content-Length": "1000"})
            await answer.prepare(request)
            await answer.write(b"half")
            assert request.transport is not None
            request.transport.abort()
            return answer
        return web.Response(status=int(name), headers={"Location": "http://169.254.169.254/"})


@pytest.fixture
async def glance() -> AsyncIterator[Glance]:
    made = Glance()
    app = web.Application()
    app.router.add_get("/v2/images/{id}/file", made.file)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    yield made
    await runner.cleanup()


class Tokens:
    """One that is kept, and a fresh one when it is refused."""

    def __init__(self) -> None:
        self.now = "kept"

    async def service_token(self) -> str:
        return self.now

    def forget(self, token: str) -> None:
        self.now = "fresh"


async def read(glance: Glance, image: str) -> bytes:
    neighbour = Neighbour("Glance", glance.url, Tokens())
    try:
        pieces = [piece async for piece in PortSource(GlanceClient(neighbour)).open(image)]
    finally:
        await neighbour.close()
    assert all(len(piece) <= PIECE for piece in pieces)
    return b"".join(pieces)


async def test_an_image_is_streamed(glance: Glance) -> None:
    assert await read(glance, "good") == DATA
    assert glance.tokens == ["kept"]


async def test_a_refused_token_is_renewed_once(glance: Glance) -> None:
    assert await read(glance, "expired") == b"x"
    assert glance.tokens == ["kept", "fresh"]


@pytest.mark.parametrize(
    ("image", "kind", "code"),
    [
        ("404", Refused, "image_gone"),
        ("204", Refused, "image_gone"),
        ("410", Refused, "image_gone"),
        ("401", Transient, "image_service"),
        ("403", Transient, "image_service"),
        ("302", Transient, "image_service"),
        ("503", Transient, "image_service"),
        ("cut", Transient, "image_service"),
    ],
)
async def test_refusals_are_typed(glance: Glance, image: str, kind: type[DriverError], code: str) -> None:
    with pytest.raises(kind) as caught:
        await read(glance, image)
    assert caught.value.code == code


async def test_a_service_that_is_away_is_transient() -> None:
    glance = Glance()
    glance.url = "http://127.0.0.1:9/"
    with pytest.raises(Transient):
        await read(glance, "good")
