"""Claims: conditional, idempotent, all or none, and never more than there is."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
from msgspec.structs import replace

from kilonova.db.changes import ChangeReader
from kilonova.db.database import Database, Tx
from kilonova.db.statement import Statement
from kilonova.model.placement import PROVIDER_CHANGED, Claim, Claimed, Conflict
from kilonova.placement import claims
from kilonova.placement.port import EmbeddedPlacement
from placement.books import GENERATIONS, RecordHost, check_books, claim_for, consumer, provider

OVER = {"VCPU": 1, "MEMORY_MB": 9_000, "DISK_GB": 1}


async def test_claim_and_release_keep_the_books(db: Database, record: RecordHost) -> None:
    await record(1)
    outcome = await db.write(claims.claim, claim_for(1))
    assert isinstance(outcome, Claimed)
    await check_books(db)
    placement = EmbeddedPlacement(db)
    assert await placement.held(consumer(1)) == {provider(1): {"VCPU": 1, "MEMORY_MB": 512, "DISK_GB": 1}}
    await placement.release(consumer(1), 3)
    await placement.release(consumer(1), 4)
    assert await placement.held(consumer(1)) == {}
    await check_books(db)


async def test_repeating_a_claim_claims_once(db: Database, record: RecordHost) -> None:
    await record(1)
    first = await db.write(claims.claim, claim_for(1))
    assert await db.write(claims.claim, claim_for(1)) == first
    await check_books(db)
    other = await db.write(claims.claim, claim_for(1, VCPU=2))
    assert isinstance(other, Conflict)
    assert other.code == "placement.concurrent_update"


@pytest.mark.parametrize(
    ("resources", "reason"),
    [
        ({"MEMORY_MB": 9_000}, "max_unit 8704"),
        ({"VCPU": 5}, "max_unit 4"),
        ({"VGPU": 1}, "no inventory of VGPU"),
        ({"MEMORY_MB": 8_400}, "not enough MEMORY_MB: 8192 free, 8400 requested"),
    ],
)
async def test_a_refusal_says_why_and_leaves_nothing(
    db: Database, record: RecordHost, resources: dict[str, int], reason: str
) -> None:
    await record(1)
    before = await db.fetch(GENERATIONS, {})
    outcome = await db.write(claims.claim, claim_for(1, **resources))
    assert isinstance(outcome, Conflict)
    assert reason in outcome.reason
    assert outcome.provider == provider(1)
    assert await db.fetch(GENERATIONS, {}) == before
    await check_books(db)
    assert await db.fetch(Statement("SELECT uuid FROM consumers"), {}) == []


async def test_an_unknown_provider_is_a_conflict(db: Database) -> None:
    outcome = await db.write(claims.claim, claim_for(1, where=99))
    assert isinstance(outcome, Conflict)
    assert provider(99) in outcome.reason


async def test_many_are_claimed_together_or_not_at_all(db: Database, record: RecordHost) -> None:
    await record(1)
    await record(2)
    fit = [claim_for(n, where=1 + n % 2, MEMORY_MB=4_096) for n in range(4)]
    assert isinstance(await db.write(claims.claim_many, fit), Claimed)
    more = [claim_for(10, where=1, MEMORY_MB=1), claim_for(11, where=2, VCPU=1)]
    assert isinstance(await db.write(claims.claim_many, more), Conflict)
    assert await EmbeddedPlacement(db).held(consumer(11)) == {}
    await check_books(db)
    assert isinstance(await db.write(claims.claim_many, fit), Claimed)
    await check_books(db)


async def test_two_of_one_request_on_one_host_are_added_up(db: Database, record: RecordHost) -> None:
    await record(1)
    both = [claim_for(1, MEMORY_MB=5_000), claim_for(2, MEMORY_MB=5_000)]
    assert isinstance(await db.write(claims.claim_many, both), Conflict)
    await check_books(db)


async def test_a_conflict_leaves_its_transaction_usable(db: Database, record: RecordHost) -> None:
    await record(1)
    await record(2)

    async def first_that_fits(tx: Tx, wanted: Claim) -> Any:
        outcome = await claims.claim(tx, wanted)
        if isinstance(outcome, Conflict):
            outcome = await claims.claim(tx, replace(wanted, provider=provider(2)))
        return outcome

    await db.write(claims.claim, claim_for(1, where=1, MEMORY_MB=8_000))
    outcome = await db.write(first_that_fits, claim_for(2, where=1, MEMORY_MB=8_000))
    assert isinstance(outcome, Claimed)
    assert list(outcome.generations) == [provider(2)]
    await check_books(db)


async def test_64_at_once_for_60_places(db: Database, record: RecordHost) -> None:
    for number in range(1, 5):
        await record(number, memory_mb=512 + 15 * 512)
    outcomes = await asyncio.gather(*(db.write(claims.claim, claim_for(n, where=1 + n % 4)) for n in range(64)))
    assert sum(isinstance(o, Claimed) for o in outcomes) == 60
    await check_books(db)


async def test_every_claim_and_release_raises_the_generation_by_one(db: Database, record: RecordHost) -> None:
    await record(1)
    (start,) = [g for _, g in await db.fetch(GENERATIONS, {})]
    for n in range(3):
        outcome = await db.write(claims.claim, claim_for(n))
        assert outcome == Claimed({provider(1): start + n + 1})
    await EmbeddedPlacement(db).release(consumer(0), 5)
    assert await db.fetch(GENERATIONS, {}) == [(provider(1), start + 4)]


async def test_a_move_holds_the_source_until_released(db: Database, record: RecordHost) -> None:
    await record(1)
    await record(2)
    placement, holder = EmbeddedPlacement(db), consumer(900)
    await placement.claim([claim_for(1)])
    for _ in range(2):
        assert isinstance(await placement.move(claim_for(1, where=2), holder), Claimed)
        assert list(await placement.held(holder)) == [provider(1)]
        assert list(await placement.held(consumer(1))) == [provider(2)]
        await check_books(db)
    await placement.release(holder, 9)
    assert await placement.held(holder) == {}
    await check_books(db)


async def test_a_refused_move_leaves_the_source_as_it_was(db: Database, record: RecordHost) -> None:
    await record(1)
    await record(2)
    placement, holder = EmbeddedPlacement(db), consumer(900)
    await placement.claim([claim_for(1)])
    assert isinstance(await placement.move(claim_for(1, where=2, **OVER), holder), Conflict)
    assert await placement.held(holder) == {}
    assert list(await placement.held(consumer(1))) == [provider(1)]
    await check_books(db)


async def test_random_claims_moves_and_releases_keep_the_books(db: Database, record: RecordHost) -> None:
    for number in range(1, 5):
        await record(number)
    placement = EmbeddedPlacement(db)

    async def worker(seed: int) -> None:
        rng = random.Random(seed)
        for turn in range(25):
            number = rng.randrange(12)
            wanted = claim_for(
                number, where=rng.randint(1, 4), VCPU=rng.randint(1, 4), MEMORY_MB=rng.choice((512, 2048, 4096))
            )
            match rng.randrange(4):
                case 0:
                    await placement.release(consumer(number), turn)
                case 1:
                    await placement.claim([wanted, replace(wanted, consumer=consumer(number + 100))])
                case _:
                    await placement.claim([wanted])

    await asyncio.gather(*(worker(seed) for seed in range(8)))
    await check_books(db)


async def test_changes_carry_absolute_states_in_order(db: Database, record: RecordHost) -> None:
    if db.dialect != "sqlite":
        pytest.skip("positions are given by the relay there")
    await record(1)
    await db.write(claims.claim, claim_for(1))
    await EmbeddedPlacement(db).release(consumer(1), 3)
    found = [c for c in (await ChangeReader(db).after(0)).changes if c.kind == PROVIDER_CHANGED]
    assert [c.generation for c in found] == sorted({c.generation for c in found})
    assert f'"settled":["{consumer(1)}"]' in found[-1].payload
    assert '"VCPU":[16,1,4,1,1]' in found[-2].payload
    assert '"VCPU":[16,0,4,1,1]' in found[-1].payload


async def test_a_claim_is_five_statements_and_its_change(db: Database, record: RecordHost) -> None:
    await record(1)

    class Counting:
        def __init__(self, tx: Tx) -> None:
            self._tx, self.count = tx, 0

        def __getattr__(self, name: str) -> Any:
            value = getattr(self._tx, name)
            self.count += callable(value)
            return value

    async def counted(tx: Tx, wanted: Claim) -> int:
        counting: Any = Counting(tx)
        await claims.claim(counting, wanted)
        return int(counting.count)

    assert await db.write(counted, claim_for(1)) == 6
