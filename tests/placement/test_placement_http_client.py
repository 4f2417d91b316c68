"""The port over HTTP keeps the port's promises, also when answers get lost."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from kilonova.db.database import Database
from kilonova.model.placement import Claimed, Conflict
from kilonova.model.scheduling import Request
from kilonova.placement.http_client import HttpPlacement
from kilonova.placement.port import EmbeddedPlacement, PlacementPort, PlacementUnavailable
from placement.api import Answer, Api
from placement.books import RecordHost, check_books, claim_for, consumer, provider


@pytest.fixture(params=["embedded", "http"])
def placement(request: pytest.FixtureRequest, db: Database, api: Api) -> PlacementPort:
    return EmbeddedPlacement(db) if request.param == "embedded" else HttpPlacement(api.transport)


async def test_one_port_two_implementations(placement: PlacementPort, db: Database, record: RecordHost) -> None:
    await record(1)
    await record(2)
    for _ in range(2):
        assert isinstance(await placement.claim([claim_for(1)]), Claimed)
    refused = await placement.claim([claim_for(2, VCPU=4, MEMORY_MB=8_400)])
    assert isinstance(refused, Conflict)
    assert refused.provider == provider(1)
    assert isinstance(await placement.claim([claim_for(3, 1), claim_for(4, 2)]), Claimed)
    assert isinstance(await placement.claim([claim_for(5, 1), claim_for(6, 2, MEMORY_MB=9_999)]), Conflict)
    assert await placement.held(consumer(5)) == {}
    for _ in range(2):
        assert isinstance(await placement.move(claim_for(1, 2), consumer(99)), Claimed)
    assert list(await placement.held(consumer(99))) == [provider(1)]
    assert list(await placement.held(consumer(1))) == [provider(2)]
    for number in (1, 1, 3, 4, 99):
        await placement.release(consumer(number), 9)
    assert await placement.held(consumer(1)) == {}
    await check_books(db)


async def test_candidates_over_http(api: Api, record: RecordHost) -> None:
    await record(1)
    await record(2, traits=())
    placement = HttpPlacement(api.transport)
    asked = Request(servers=("s",), resources={"VCPU": 1}, required=frozenset({"HW_CPU_X86_AVX2"}))
    assert await placement.candidates(asked) == (provider(1),)
    unknown = Request(servers=("s",), resources={"CUSTOM_NEVER_SEEN": 1})
    assert await placement.candidates(unknown) == ()


async def test_a_lost_answer_is_looked_up(api: Api, db: Database, record: RecordHost) -> None:
    await record(1)

    async def losing(method: str, path: str, headers: Mapping[str, str], body: bytes | None) -> Answer:
        answer = await api.transport(method, path, headers, body)
        if method == "PUT":
            raise TimeoutError("the answer was lost")
        return answer

    assert isinstance(await HttpPlacement(losing).claim([claim_for(1)]), Claimed)
    await check_books(db)

    async def away(method: str, path: str, headers: Mapping[str, str], body: bytes | None) -> Answer:
        raise ConnectionRefusedError("nobody there")

    with pytest.raises(PlacementUnavailable):
        await HttpPlacement(away).claim([claim_for(2)])
