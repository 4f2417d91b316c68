"""The event stream: in order, none lost over a reconnect, one's own only, ending with its token."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from api import api_cloud
from api.api_cloud import ADMIN, DEMO, Cloud, new_uuid
from kilonova.api import events
from kilonova.db.feed import ChangeFeed
from kilonova.db.relay import Relay
from kilonova.model.credentials import Credentials

_DEADLINE_S = 10.0


class Stream:
    """One client of the event stream, speaking ASGI."""

    def __init__(self, cloud: Cloud, who: str = "member", resume: str = "", query: str = "") -> None:
        self._gone = asyncio.Event()
        self._pieces: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._blocks: list[str] = []
        headers = [(b"host", b"cloud.test"), (b"x-auth-token", who.encode())]
        if resume:
            headers.append((b"last-event-id", resume.encode()))
        scope = {
            "type": "http", "method": "GET", "path": "/compute/v2.1/kilonova/events", "headers": headers,
            "query_string": query.encode(), "client": ("127.0.0.1", 1), "scheme": "http",
        }  # fmt: skip
        self._task = asyncio.create_task(cloud.app(scope, self._receive, self._pieces.put))
        self.index = resume

    async def _receive(self) -> dict[str, Any]:
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def status(self) -> int:
        async with asyncio.timeout(_DEADLINE_S):
            return int((await self._pieces.get())["status"])

    async def piece(self) -> dict[str, str] | None:
        """The next block of lines by name, None at the end; a piece of the body may hold several."""
        if not self._blocks:
            async with asyncio.timeout(_DEADLINE_S):
                message = await self._pieces.get()
            if not message.get("more_body"):
                return None
            self._blocks += message["body"].decode().strip().split("\n\n")
        block = dict(line.split(": ", 1) for line in self._blocks.pop(0).split("\n"))
        self.index = block.get("id", self.index)
        return block

    async def events(self, count: int) -> list[tuple[str, Any]]:
        """The next events, comments passed over."""
        found: list[tuple[str, Any]] = []
        while len(found) < count:
            block = await self.piece()
            assert block is not None
            if "data" in block:
                found.append((block["event"], json.loads(block["data"])))
        return found

    async def close(self) -> None:
        self._gone.set()
        async with asyncio.timeout(_DEADLINE_S):
            await self._task


@pytest_asyncio.fixture
async def live(cloud: Cloud) -> AsyncIterator[Cloud]:
    databases = list(dict.fromkeys([cloud.databases.global_, *cloud.databases.cells.values()]))
    feed = ChangeFeed(databases)
    await feed.start()
    cloud.services.feed = feed
    relays = [Relay(db, new_uuid(), feed.wake) for db in databases if db.dialect != "sqlite"]
    running = {asyncio.create_task(each.run()) for each in (feed, *relays)}
    yield cloud
    for task in running:
        task.cancel()
    await asyncio.wait(running)


async def test_what_happens_to_ones_own_servers_is_told_in_order(live: Cloud) -> None:
    stream = Stream(live)
    assert await stream.status() == 200
    assert await stream.piece() is not None
    await live.boot(who="other")
    uuid = await live.boot()
    assert (await live.call("DELETE", f"/servers/{uuid}")).status_code == 204
    told = await stream.events(2)
    assert [(kind, data["id"], data["state"]["task_state"]) for kind, data in told] == [
        ("server", uuid, "scheduling"), ("server", uuid, "deleting"),
    ]  # fmt: skip
    assert [data["generation"] for _, data in told] == [1, 2]
    assert told[0][1]["project_id"] == DEMO
    await stream.close()


async def test_nothing_is_lost_between_two_connections(live: Cloud) -> None:
    first = Stream(live)
    await first.status()
    one = await live.boot("one")
    assert [data["id"] for _, data in await first.events(1)] == [one]
    await first.close()
    missed = [await live.boot(f"n{i}") for i in range(5)]
    second = Stream(live, resume=first.index)
    await second.status()
    assert [data["id"] for _, data in await second.events(5)] == missed
    await second.close()


async def test_an_index_of_nowhere_is_a_reset_and_goes_on(live: Cloud) -> None:
    await live.boot("before")
    stream = Stream(live, resume="nonsense")
    await stream.status()
    assert [kind for kind, _ in await stream.events(1)] == ["reset"]
    uuid = await live.boot("after")
    told = await stream.events(1)
    while told[0][1]["id"] != uuid:  # what the feed had not read yet when the reset was told
        told = await stream.events(1)
    await stream.close()


async def test_admins_may_follow_everybody(live: Cloud) -> None:
    stream = Stream(live, who="admin", query="all_projects=1")
    assert await stream.status() == 200
    await stream.piece()
    mine, theirs = await live.boot("a"), await live.boot("b", who="other")
    assert {data["id"] for _, data in await stream.events(2)} == {mine, theirs}
    await stream.close()
    refused = await live.call("GET", "/kilonova/events?all_projects=1")
    assert refused.status_code == 403


async def test_an_idle_stream_beats_and_ends_with_its_token(live: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "HEARTBEAT_S", 0.02)
    monkeypatch.setattr(events, "CHECK_S", 0.05)
    brief = Credentials.make("u", ["member"], project_id=ADMIN)
    monkeypatch.setitem(api_cloud.TOKENS, "brief", brief)
    stream = Stream(live, who="brief")
    await stream.status()
    assert await stream.piece() is not None
    assert await stream.piece() is not None
    monkeypatch.delitem(api_cloud.TOKENS, "brief")
    told = await stream.events(1)
    assert told == [("end", {"reason": "token"})]
    assert await stream.piece() is None
    await stream.close()


async def test_without_a_feed_it_says_so(cloud: Cloud) -> None:
    assert (await cloud.call("GET", "/kilonova/events")).status_code == 501
