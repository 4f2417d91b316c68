"""A cloud's databases by name: apart, together, and a feed over all of them."""

from __future__ import annotations

import asyncio
import time
import uuid
from pathlib import Path

import pytest

from kilonova.db.changes import emit
from kilonova.db.database import Tx
from kilonova.db.errors import Closed, DatabaseError, Unavailable
from kilonova.db.feed import ChangeFeed
from kilonova.db.open import Databases, one_file, open_databases, three_files
from kilonova.db.relay import Relay
from kilonova.db.statement import Statement

SERVERS = Statement("SELECT COUNT(*) FROM servers")
FLAVORS = Statement("SELECT COUNT(*) FROM flavors")


async def test_three_files(tmp_path: Path) -> None:
    async with await open_databases(three_files(tmp_path)) as databases:
        assert [db.name for db in databases.all()] == ["global", "cell0", "cell1"]
        assert list(databases.cells) == ["cell0", "cell1"]
        assert await databases.cells["cell1"].fetch_one(SERVERS, {}) == (0,)
        with pytest.raises(DatabaseError):
            await databases.global_.fetch_one(SERVERS, {})
        with pytest.raises(DatabaseError):
            await databases.cells["cell0"].fetch_one(FLAVORS, {})
    with pytest.raises(Closed):
        await databases.global_.fetch_one(FLAVORS, {})


async def test_one_file_is_one_database(tmp_path: Path) -> None:
    async with await open_databases(one_file(tmp_path)) as databases:
        assert databases.all() == [databases.global_] == list(databases)
        assert set(map(id, databases.cells.values())) == {id(databases.global_)}
        assert await databases.global_.fetch_one(SERVERS, {}) == (0,)
    mixed = {"global": tmp_path / "g.db", "cell0": f"sqlite:///{tmp_path}/g.db", "cell1": tmp_path / "c.db"}
    async with await open_databases(mixed) as databases:
        assert databases.cells["cell0"] is databases.global_ is not databases.cells["cell1"]


async def test_what_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="global"):
        await open_databases({"cell1": tmp_path / "x.db"})
    with pytest.raises(ValueError, match="mysql"):
        await open_databases({"global": tmp_path / "x.db", "cell1": "mysql://h/x"})
    with pytest.raises(Unavailable):
        await open_databases({"global": tmp_path / "x.db", "cell1": f"postgresql:///x?host={tmp_path}"})


async def test_one_feed_over_all(databases: Databases) -> None:
    async def announce(tx: Tx, generation: int) -> None:
        await emit(tx, "server", "s", "p", generation, b"{}", time.time_ns() // 1000)

    feed = ChangeFeed(databases)
    await feed.start()
    cells = databases.all()
    relays = [Relay(db, str(uuid.uuid4())).run() for db in cells if db.dialect != "sqlite"]
    following = asyncio.gather(feed.run(), *relays)
    try:
        async with asyncio.timeout(30), feed.subscribe() as stream:
            await asyncio.gather(*(db.write(announce, i) for i in range(1, 21) for db in cells))
            first = [await anext(stream) for _ in range(15)]
            rest: list[tuple[str, int]] = []
            async with feed.subscribe(first[9].index) as again:  # ten were handled before the connection broke
                while len(rest) < 20 * len(cells) - 10:
                    event = await anext(again)
                    rest.append((event.database, event.change.position))
        seen = [(e.database, e.change.position) for e in first[:10]] + rest
        assert sorted(seen) == sorted((db.name, i) for db in cells for i in range(1, 21))
        for db in cells:
            positions = [position for name, position in seen if name == db.name]
            assert positions == sorted(positions)
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
