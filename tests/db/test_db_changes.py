"""The order of changes: nothing lost, nothing twice, each subject by generation."""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from kilonova.db import changes as changes_module
from kilonova.db import relay as relay_module
from kilonova.db.changes import ChangeReader, Reset, emit, trim
from kilonova.db.database import Database, Tx
from kilonova.db.errors import CommitUnknown
from kilonova.db.feed import ChangeFeed, Event, Subscription, decode_index, encode_index
from kilonova.db.relay import Deposed, Relay, in_order
from kilonova.db.statement import Statement

COUNTER = Statement("INSERT INTO quota_usages (project_id, user_id, resource, used) VALUES (:p, '', :r, 0)")
NEXT = Statement("UPDATE quota_usages SET used = used + 1 WHERE resource = :r AND project_id = :p")
NOW_AT = Statement("SELECT used FROM quota_usages WHERE resource = :r AND project_id = :p")
HOLD = Statement("SELECT 1 FROM pg_sleep(CAST(:s AS DOUBLE PRECISION))")
WAIT_S = 30.0


class GaveUp(Exception):
    """The transaction changed its mind."""


@asynccontextmanager
async def tasks(*work: object) -> AsyncIterator[None]:
    """Run coroutines beside the test."""
    running = [asyncio.ensure_future(w) for w in work]  # type: ignore[arg-type, call-overload]  # coroutines
    try:
        yield
    finally:
        for task in running:
            task.cancel()
        done = await asyncio.gather(*running, return_exceptions=True)
    for error in done:
        if isinstance(error, Exception):
            raise error


def relays(db: Database, count: int = 1) -> list[object]:
    return [Relay(db, str(uuid.uuid4())).run() for _ in range(count)] if db.dialect != "sqlite" else []


async def announce(tx: Tx, what: tuple[str, str, int]) -> None:
    subject, project, generation = what
    await emit(tx, "server", subject, project, generation, "{}", time.time_ns() // 1000)


async def take(subscription: Subscription, count: int) -> list[Event]:
    async with asyncio.timeout(WAIT_S):
        return [await anext(subscription) for _ in range(count)]


async def seed(tx: Tx, subjects: list[str]) -> None:
    for subject in subjects:
        await tx.execute(COUNTER, {"p": "p", "r": subject})


class Writer:
    """Bumps subjects and announces it, holding its transactions open at random, some in vain."""

    def __init__(self, db: Database, subjects: list[str], seed: int) -> None:
        self.db, self.subjects, self.random = db, subjects, random.Random(seed)
        self.committed: list[tuple[str, int]] = []

    async def one(self, tx: Tx, plan: tuple[str, float, float, bool]) -> tuple[str, int]:
        subject, before, after, fails = plan
        await tx.execute(NEXT, {"p": "p", "r": subject})
        row = await tx.fetch_one(NOW_AT, {"p": "p", "r": subject})
        assert row is not None
        if tx.dialect == "postgresql":
            await tx.fetch(HOLD, {"s": before})
        await announce(tx, (subject, f"project-{subject}", row[0]))
        if tx.dialect == "postgresql":
            await tx.fetch(HOLD, {"s": after})
        if fails:
            raise GaveUp
        return subject, row[0]

    async def run(self, count: int) -> None:
        for _ in range(count):
            pick = self.random
            subject = pick.choice(self.subjects)
            plan = (subject, pick.random() * 0.01, pick.random() ** 4 * 0.2, pick.random() < 0.1)
            with suppress(GaveUp):
                self.committed.append(await self.db.write(self.one, plan))


def check(events: list[Event], committed: list[tuple[str, int]]) -> None:
    positions = [event.change.position for event in events]
    assert positions == list(range(1, len(committed) + 1))
    seen = [(event.change.subject, event.change.generation) for event in events]
    assert sorted(seen) == sorted(committed)
    for subject in {subject for subject, _ in seen}:
        generations = [generation for s, generation in seen if s == subject]
        assert generations == sorted(generations)


async def test_eight_writers_that_hold_their_transactions(db: Database) -> None:
    subjects = [f"s{i}" for i in range(12)]
    await db.write(seed, subjects)
    feed = ChangeFeed([db])
    await feed.start()
    writers = [Writer(db, subjects, seed=i) for i in range(8)]
    events: list[Event] = []
    resumed: list[Event] = []
    of_one: list[Event] = []

    async def reconnecting() -> None:
        pick = random.Random(5)
        resume = feed.index()
        while True:
            async with feed.subscribe(resume) as stream:
                for _ in range(pick.randrange(1, 9)):
                    event = await anext(stream)
                    resumed.append(event)
                    resume = event.index

    async def gather_into(stream: Subscription, into: list[Event]) -> None:
        async for event in stream:
            into.append(event)

    everything, one = feed.subscribe(), feed.subscribe(project_id="project-s3")
    async with tasks(
        feed.run(), *relays(db, 2), reconnecting(), gather_into(everything, events), gather_into(one, of_one)
    ):
        await asyncio.gather(*(writer.run(25) for writer in writers))
        committed = [done for writer in writers for done in writer.committed]
        async with asyncio.timeout(WAIT_S):
            while len(events) < len(committed) or len(resumed) < len(committed):
                await take(feed.subscribe(events[-1].index if events else None), 0)
                await asyncio.sleep(0.01)
    check(events, committed)
    check(resumed, committed)
    assert [e.change for e in of_one] == [e.change for e in events if e.change.subject == "s3"]
    assert await ChangeReader(db).position() == len(committed)


async def test_a_rolled_back_change_leaves_no_gap(db: Database) -> None:
    async def fails(tx: Tx, what: tuple[str, str, int]) -> None:
        await announce(tx, what)
        raise GaveUp

    feed = ChangeFeed([db])
    await feed.start()
    stream = feed.subscribe()
    async with tasks(feed.run(), *relays(db)):
        await db.write(announce, ("a", "p", 1))
        with pytest.raises(GaveUp):
            await db.write(fails, ("b", "p", 1))
        await db.write(announce, ("c", "p", 1))
        assert [(e.change.position, e.change.subject) for e in await take(stream, 2)] == [(1, "a"), (2, "c")]


async def test_old_changes_go_and_positions_stay(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes_module, "_TRIM", 7)
    reader = ChangeReader(db)
    feed = ChangeFeed([db])
    await feed.start()
    start = feed.index()
    stream = feed.subscribe()
    async with tasks(feed.run(), *relays(db)):
        for i in range(1, 31):
            await db.write(announce, (f"s{i}", "p", i))
        tenth = (await take(stream, 30))[9].index
        now = (await reader.after(20)).changes[0].created_at
        assert await trim(db, now + changes_module.KEPT_US) == 20
        assert await reader.bounds() == (21, 30)
        assert [c.position for c in (await reader.after(20, 4)).changes] == [21, 22, 23, 24]
        for position in (0, 19, 31):
            with pytest.raises(Reset):
                await reader.after(position)
            with pytest.raises(Reset):
                await reader.after(position, project_id="p")
        assert (await reader.after(30)).changes == []
        fresh = ChangeFeed([db])
        await fresh.start()
        for index in (start, tenth):
            with pytest.raises(Reset):
                await take(fresh.subscribe(index), 1)
        assert await trim(db, now + 10 * changes_module.KEPT_US) == 9
        assert await reader.bounds() == (30, 30)
        await db.write(announce, ("next", "p", 1))
        assert [e.change.position for e in await take(stream, 1)] == [31]


async def test_a_project_sees_its_own_and_steps_over_the_rest(db: Database) -> None:
    async def many(tx: Tx, count: int) -> None:
        for i in range(count):
            await announce(tx, (f"s{i}", "mine" if i % 700 == 5 else "other", 1))

    feed = ChangeFeed([db])
    await feed.start()
    resume = feed.index()
    async with tasks(feed.run(), *relays(db)):
        live = feed.subscribe(project_id="mine")
        everything = feed.subscribe()
        await db.write(many, 3000)
        assert len(await take(everything, 3000)) == 3000
        mine = [6, 706, 1406, 2106, 2806]
        assert [e.change.position for e in await take(live, 5)] == mine
        late = feed.subscribe(resume, "mine")  # further back than the feed remembers
        events = await take(late, 5)
        assert [e.change.position for e in events] == mine
        again = feed.subscribe(events[2].index, "mine")
        assert [e.change.position for e in await take(again, 2)] == mine[3:]
        # An idle reader's index moves with what is not for it.
        waiting = asyncio.ensure_future(anext(live))
        await asyncio.sleep(0)
        assert live.index() == feed.index()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert live.index() == feed.index()


async def test_a_resume_index_is_checked(db: Database) -> None:
    feed = ChangeFeed([db])
    with pytest.raises(RuntimeError):
        feed.subscribe()
    await feed.start()
    places = decode_index(feed.index())
    assert places["global"].born  # the tables were made by kilonova
    foreign = encode_index({"global": places["global"]._replace(born="another")})
    ahead = encode_index({"global": places["global"]._replace(position=99)})
    for index in ("", "!!", "é", "x" * 5000, encode_index({}), foreign, ahead, "gqE"):
        with pytest.raises(Reset):
            feed.subscribe(index)
    assert feed.subscribe(feed.index()).index() == feed.index()


async def test_closing_ends_the_iteration(db: Database) -> None:
    feed = ChangeFeed([db])
    await feed.start()
    stream = feed.subscribe(project_id="p")
    waiting = asyncio.ensure_future(anext(stream, None))
    await asyncio.sleep(0)
    stream.close()
    assert await asyncio.wait_for(waiting, WAIT_S) is None


@pytest.mark.postgres
async def test_relays_take_over_and_stale_ones_change_nothing(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kilonova.db.postgres import PostgresDatabase

    monkeypatch.setattr(relay_module, "DEAD_S", 0.2)
    monkeypatch.setattr(relay_module, "BEAT_S", 0.05)
    db = PostgresDatabase(postgres_url)
    await db.open()
    moved = asyncio.Event()
    old, new = Relay(db, str(uuid.uuid4())), Relay(db, str(uuid.uuid4()), moved.set)
    assert await old._take()
    assert old.epoch == 1
    await db.write(announce, ("a", "p", 1))
    assert await old.move() == 1
    assert await old.move() == 0
    await db.write(announce, ("b", "p", 1))
    async with tasks(new.run()):  # the old one says nothing any more: it is taken for dead
        await asyncio.wait_for(moved.wait(), WAIT_S)
        assert new.epoch == 2
        await db.write(announce, ("c", "p", 1))
        with pytest.raises(Deposed):
            await old.move() or await old._beat()
        moved.clear()
        new.wake()
        reader = ChangeReader(db)
        async with asyncio.timeout(WAIT_S):
            while await reader.position() < 3:
                await moved.wait()
    assert [c.subject for c in (await reader.after(0)).changes] == ["a", "b", "c"]
    third = Relay(db, str(uuid.uuid4()))
    assert await third._take()  # the lease was given back: nobody waits for the dead
    await db.close()


SLEEP_AT_COMMIT = """
    CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.4); RETURN NULL; END $$;
    CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON changes DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION slow();
"""


@pytest.mark.postgres
async def test_a_move_whose_commit_got_lost_on_the_way_is_not_made_twice(postgres_url: str) -> None:
    import asyncpg

    from kilonova.db.postgres import PostgresDatabase

    db = PostgresDatabase(postgres_url)
    await db.open()
    admin = await asyncpg.connect(postgres_url)
    await admin.execute(SLEEP_AT_COMMIT)
    relay = Relay(db, str(uuid.uuid4()))
    assert await relay._take()
    await db.write(announce, ("a", "p", 1))
    moving = asyncio.ensure_future(relay.move())
    async with asyncio.timeout(WAIT_S):
        while not await admin.fetchval("SELECT COUNT(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"):
            pass
    for holder in db._pool._holders:  # our end of the connection breaks; the server commits all the same
        if holder._con is not None:
            holder._con.terminate()
    with pytest.raises(CommitUnknown):
        await moving
    assert await relay.move() == 0
    batch = await ChangeReader(db).after(0)
    assert [(c.position, c.subject) for c in batch.changes] == [(1, "a")]
    await admin.close()
    await db.close()


def test_a_batch_is_ordered_by_generation_within_a_subject() -> None:
    rows = [(1, "k", "a", "", 2), (2, "k", "b", "", 9), (3, "k", "a", "", 1), (4, "other", "a", "", 0)]
    assert in_order(rows) == [rows[2], rows[1], rows[0], rows[3]]
