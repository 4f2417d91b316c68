"""Who owns operations: beats, deaths, takeovers; and who may not be taken for dead (contracts: 1.12, 1.13)."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest

from conductor.small_cloud import SmallCloud, small_cloud
from conductor.toy import Toy, stories
from kilonova.conductor.ownership import Ownership
from kilonova.conductor.story import Done, done
from kilonova.db.statement import Statement


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def pair(databases):
    """Two incarnations on one database, with one clock that only the test moves."""
    clock, owners = Clock(), []
    for name in ("a", "b"):
        owner = Ownership(
            databases.cells["cell1"], str(uuid4()), name, alone=False, now_us=lambda: 1, monotonic=clock
        )
        await owner.start()
        owners.append(owner)
    return clock, *owners


async def both_beat(clock, a, b, rounds=3):
    for _ in range(rounds):
        clock.now += 1
        await a.beat()
        await b.beat()


async def test_silence_is_death(pair):
    clock, a, b = pair
    await both_beat(clock, a, b)
    for _ in range(5):
        clock.now += 1
        await a.beat()
    assert not b.may_act()
    await b.beat()
    assert b.ended
    assert a.may_act()


async def test_an_outage_of_the_database_kills_nobody(pair):
    """For ten seconds nobody could write a beat nor read one: that is nobody's death."""
    clock, a, b = pair
    await both_beat(clock, a, b)
    clock.now += 10
    assert not a.may_act()
    await b.beat()  # its last look was the younger one: it saw the other's last beat
    await a.beat()
    assert not a.ended
    assert not b.ended
    assert a.may_act()
    assert b.may_act()
    await both_beat(clock, a, b)
    assert not b.ended


async def test_only_operations_whose_story_is_known_are_taken_over(pair):
    clock, a, b = pair
    toy = Toy(a.database)

    async def story(op, inputs) -> Done:
        return done()

    with stories(known=story):
        known, unknown = await toy.open("known"), await toy.open("of-a-newer-release")
        old = await toy.open("known", version=7)
        await toy.sql("UPDATE operations SET owner = :b, epoch = 1, state = 'running'", b=b.me)
        await both_beat(clock, a, b)
        taken = []
        for _ in range(5):
            clock.now += 1
            taken += await a.beat()
        assert taken == [known]
        for operation in (unknown, old):
            assert await toy.row(operation, "owner") == b.me


async def test_a_slow_database_does_not_silence_the_beats_of_others(databases, tmp_path):
    """Polling one database may take long; the beats in all of them go on."""
    async with small_cloud(databases, tmp_path) as cloud:
        await cloud.conductor.stop()
        cloud.conductor = other = SmallCloud(
            databases, cloud.world, tmp_path / "other", cloud.network, alone=False
        ).conductor
        for executor in other.executors:

            async def hangs():
                await asyncio.Event().wait()

            executor.poll = hangs
        await other.start()

        async def beats():
            rows = []
            for database in databases.all():
                rows += await database.fetch(
                    Statement("SELECT beat FROM owners WHERE incarnation = :me"), {"me": other.me}
                )
            return all(row[0] >= 2 for row in rows)

        await cloud.until(beats, "beats in every database", 10)
