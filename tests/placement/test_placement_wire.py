"""Placement over HTTP: versions, errors, generations, and the same books as the write steps."""

from __future__ import annotations

from typing import Any

import pytest

from kilonova.db.database import Database
from placement.api import Api
from placement.books import RecordHost, check_books, consumer, provider

GOLD = "CUSTOM_GOLD"


async def with_inventory(api: Api, number: int = 1, **classes: int) -> str:
    uuid = provider(number)
    assert (await api("POST", "/resource_providers", {"name": f"rp{number}", "uuid": uuid})).status == 200
    inventories = {name: {"total": total} for name, total in (classes or {"VCPU": 8}).items()}
    body = {"resource_provider_generation": 0, "inventories": inventories}
    assert (await api("PUT", f"/resource_providers/{uuid}/inventories", body)).status == 200
    return uuid


def holds(uuid: str, generation: int | None = None, **resources: int) -> dict[str, Any]:
    return {
        "allocations": {uuid: {"resources": resources}} if resources else {}, "project_id": "p", "user_id": "u",
        "consumer_generation": generation, "consumer_type": "INSTANCE",
    }  # fmt: skip


async def test_the_version_document_needs_no_token(api: Api) -> None:
    answer = await api("GET", "/", token=None, version="")
    assert answer.json["versions"][0]["max_version"] == "1.39"
    assert (await api("GET", "/traits", token=None)).status == 401
    assert (await api("GET", "/traits", token="bad")).status == 401


@pytest.mark.parametrize(
    ("method", "path", "version", "status"),
    [
        ("GET", "/traits", "1.5", 404),
        ("GET", "/traits", "1.6", 200),
        ("GET", "/traits", "latest", 200),
        ("GET", "/traits", "1.40", 406),
        ("GET", "/traits", "one", 400),
        ("PATCH", "/traits", "1.39", 405),
        ("GET", "/nothing", "1.39", 404),
        ("GET", "/traits?what=ever", "1.39", 400),
        ("GET", "/resource_providers/nobody", "1.39", 404),
    ],
)
async def test_versions_and_paths(api: Api, method: str, path: str, version: str, status: int) -> None:
    answer = await api(method, path, version=version)
    assert answer.status == status
    if status == 406:
        assert answer.error["max_version"] == "1.39"
    if status == 405:
        assert answer.headers["allow"] == "GET"


async def test_who_may(api: Api, db: Database) -> None:
    assert (await api("GET", "/traits", token="service")).status == 200
    assert (await api("GET", "/traits", token="member")).status == 403
    assert (await api("GET", "/usages?project_id=mine", token="reader:mine")).status == 200
    assert (await api("GET", "/usages?project_id=theirs", token="reader:mine")).status == 403


async def test_errors_carry_codes_from_1_23(api: Api) -> None:
    await with_inventory(api)
    body = {"name": "rp1", "uuid": provider(7)}
    assert (await api("POST", "/resource_providers", body)).error["code"] == "placement.duplicate_name"
    assert "code" not in (await api("POST", "/resource_providers", body, version="1.22")).error


@pytest.mark.parametrize(
    "body", [[], "text", {"name": ""}, {"name": 5}, {"name": "x" * 300}, {"name": "x", "more": 1}, {}, {"uuid": "no"}]
)
async def test_wrong_bodies_are_400(api: Api, body: Any) -> None:
    answer = await api("POST", "/resource_providers", body)
    assert answer.status == 400
    assert "JSON does not validate" in answer.error["detail"]


async def test_generations_are_compared(api: Api) -> None:
    uuid = await with_inventory(api)
    stale = {"resource_provider_generation": 0, "inventories": {}}
    answer = await api("PUT", f"/resource_providers/{uuid}/inventories", stale)
    assert (answer.status, answer.error["code"]) == (409, "placement.concurrent_update")
    for path, body in (("traits", {"traits": []}), ("aggregates", {"aggregates": []})):
        answer = await api("PUT", f"/resource_providers/{uuid}/{path}", {**body, "resource_provider_generation": 9})
        assert (answer.status, answer.error["code"]) == (409, "placement.concurrent_update")
    assert (await api("GET", f"/resource_providers/{uuid}")).json["generation"] == 1


async def test_allocations_over_http_keep_the_books(api: Api, db: Database) -> None:
    uuid = await with_inventory(api, VCPU=8, MEMORY_MB=1000)
    path = f"/allocations/{consumer(1)}"
    assert (await api("PUT", path, holds(uuid, VCPU=8, MEMORY_MB=100))).status == 204
    assert (await api("PUT", path, holds(uuid, VCPU=8))).status == 409, "null means it must not exist"
    assert (await api("PUT", f"/allocations/{consumer(2)}", holds(uuid, VCPU=1))).status == 409
    assert (await api("PUT", f"/allocations/{consumer(2)}", holds(provider(9), VCPU=1))).status == 400
    await check_books(db)
    assert (await api("PUT", path, holds(uuid, 1, VCPU=2))).status == 204
    shown = (await api("GET", path)).json
    assert shown["allocations"] == {uuid: {"generation": 3, "resources": {"VCPU": 2}}}
    assert (shown["consumer_generation"], shown["consumer_type"]) == (2, "INSTANCE")
    usages = (await api("GET", "/usages?project_id=p")).json["usages"]
    assert usages == {"INSTANCE": {"VCPU": 2, "consumer_count": 1}}
    await check_books(db)
    assert (await api("PUT", path, holds(uuid, 2))).status == 204
    assert (await api("GET", path)).json == {"allocations": {}}
    assert (await api("DELETE", path)).status == 404
    await check_books(db)


async def test_a_swap_in_one_request_is_atomic(api: Api, db: Database) -> None:
    uuid = await with_inventory(api)
    await api("PUT", f"/allocations/{consumer(1)}", holds(uuid, VCPU=8))
    both = {consumer(1): holds(uuid, 1), consumer(2): holds(uuid, VCPU=8)}
    assert (await api("POST", "/allocations", both)).status == 204
    both = {consumer(2): holds(uuid, 1, VCPU=1), consumer(3): holds(uuid, VCPU=8)}
    assert (await api("POST", "/allocations", both)).status == 409
    assert (await api("GET", f"/allocations/{consumer(2)}")).json["consumer_generation"] == 1
    await check_books(db)


async def test_inventory_in_use_stays(api: Api) -> None:
    uuid = await with_inventory(api)
    await api("PUT", f"/allocations/{consumer(1)}", holds(uuid, VCPU=1))
    empty = {"resource_provider_generation": 2, "inventories": {}}
    answer = await api("PUT", f"/resource_providers/{uuid}/inventories", empty)
    assert (answer.status, answer.error["code"]) == (409, "placement.inventory.inuse")
    assert (await api("DELETE", f"/resource_providers/{uuid}")).error["code"] == "placement.resource_provider.inuse"


async def test_custom_names(api: Api) -> None:
    uuid = await with_inventory(api)
    assert (await api("PUT", f"/traits/{GOLD}")).status == 201
    assert (await api("PUT", f"/traits/{GOLD}")).status == 204
    assert (await api("PUT", "/traits/HW_CPU_X86_AVX2")).status == 400
    body = {"resource_provider_generation": 1, "traits": [GOLD, "HW_CPU_X86_AVX2"]}
    assert (await api("PUT", f"/resource_providers/{uuid}/traits", body)).json["resource_provider_generation"] == 2
    assert (await api("DELETE", f"/traits/{GOLD}")).status == 409
    assert (await api("GET", "/traits?associated=true")).json["traits"] == [GOLD, "HW_CPU_X86_AVX2"]
    assert (await api("DELETE", f"/resource_providers/{uuid}/traits")).status == 204
    assert (await api("DELETE", f"/traits/{GOLD}")).status == 204
    assert (await api("PUT", f"/resource_classes/{GOLD}")).status == 201
    assert (await api("DELETE", "/resource_classes/VCPU")).status == 400
    assert (await api("DELETE", f"/resource_classes/{GOLD}")).status == 204


async def test_trees(api: Api) -> None:
    for number in range(3):
        parent = provider(number - 1) if number else None
        body = {"name": f"rp{number}", "uuid": provider(number), "parent_provider_uuid": parent}
        assert (await api("POST", "/resource_providers", body)).json["root_provider_uuid"] == provider(0)
    assert (await api("DELETE", f"/resource_providers/{provider(0)}")).status == 409
    loop = {"name": "rp0", "parent_provider_uuid": provider(2)}
    assert (await api("PUT", f"/resource_providers/{provider(0)}", loop)).status == 400
    alone = {"name": "rp1", "parent_provider_uuid": None}
    assert (await api("PUT", f"/resource_providers/{provider(1)}", alone, version="1.36")).status == 400
    assert (await api("PUT", f"/resource_providers/{provider(1)}", alone)).status == 200
    found = (await api("GET", f"/resource_providers?in_tree={provider(2)}")).json["resource_providers"]
    assert [each["uuid"] for each in found] == [provider(1), provider(2)]


async def test_candidates_and_lists_filter_alike(api: Api, record: RecordHost) -> None:
    await record(1, traits=("HW_CPU_X86_AVX2",))
    await record(2, traits=("HW_CPU_X86_SSE42",), vcpus=2)
    aggregate = {"aggregates": [provider(50)], "resource_provider_generation": 1}
    assert (await api("PUT", f"/resource_providers/{provider(2)}/aggregates", aggregate)).status == 200
    for query, found in (
        ("resources=VCPU:1", [1, 2]),
        ("resources=VCPU:3", [1]),
        ("resources=VCPU:1&required=HW_CPU_X86_SSE42", [2]),
        ("resources=VCPU:1&required=!HW_CPU_X86_SSE42", [1]),
        ("resources=VCPU:1&required=in:HW_CPU_X86_SSE42,HW_CPU_X86_AVX2", [1, 2]),
        (f"resources=VCPU:1&member_of={provider(50)}", [2]),
        (f"resources=VCPU:1&member_of=!{provider(50)}", [1]),
        (f"resources=VCPU:1&in_tree={provider(2)}", [2]),
    ):
        listed = (await api("GET", f"/resource_providers?{query}")).json["resource_providers"]
        assert [each["uuid"] for each in listed] == [provider(n) for n in found], query
        answer = (await api("GET", f"/allocation_candidates?{query}")).json
        assert list(answer["provider_summaries"]) == [provider(n) for n in found], query
        assert len(answer["allocation_requests"]) == len(found)
    assert (await api("GET", "/allocation_candidates?resources=VCPU:1&resources1=VCPU:1")).status == 501
    assert len((await api("GET", "/allocation_candidates?resources=VCPU:1&limit=1")).json["allocation_requests"]) == 1


async def test_a_reshape_moves_all_or_nothing(api: Api, db: Database) -> None:
    uuid = await with_inventory(api, 1, VCPU=8, DISK_GB=10)
    child = {"name": "child", "uuid": provider(2), "parent_provider_uuid": uuid}
    assert (await api("POST", "/resource_providers", child)).status == 200
    await api("PUT", f"/allocations/{consumer(1)}", holds(uuid, VCPU=2, DISK_GB=1))
    body: dict[str, Any] = {
        "inventories": {
            uuid: {"resource_provider_generation": 2, "inventories": {"DISK_GB": {"total": 10}}},
            provider(2): {"resource_provider_generation": 0, "inventories": {"VCPU": {"total": 8}}},
        },
        "allocations": {},
    }
    assert (await api("POST", "/reshaper", body)).error["code"] == "placement.inventory.inuse"
    moved = holds(uuid, 1, DISK_GB=1)
    moved["allocations"][provider(2)] = {"resources": {"VCPU": 2}}
    assert (await api("POST", "/reshaper", body | {"allocations": {consumer(1): moved}})).status == 204
    assert (await api("GET", f"/resource_providers/{provider(2)}/usages")).json["usages"] == {"VCPU": 2}
    await check_books(db)


async def test_a_deleted_provider_comes_back_with_its_hosts_report(api: Api, db: Database, record: RecordHost) -> None:
    await record(1)
    assert (await api("DELETE", f"/resource_providers/{provider(1)}")).status == 204
    await record(1)
    traits = (await api("GET", f"/resource_providers/{provider(1)}/traits")).json["traits"]
    assert traits == ["HW_CPU_X86_AVX2"]
    assert (await api("GET", f"/resource_providers/{provider(1)}/usages")).json["usages"].keys() == {
        "VCPU", "MEMORY_MB", "DISK_GB"
    }  # fmt: skip
