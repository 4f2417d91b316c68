"""POST /servers: what is committed with the answer, and what is refused before."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from api.api_cloud import BIG_IMAGE, DEMO, IMAGE, NETWORK, Cloud
from kilonova.db.statement import Statement
from kilonova.model.operation import ScheduleInputs

_OPERATIONS = Statement("SELECT id, story, state, target, number, inputs FROM operations ORDER BY created_at")
_USED = Statement("SELECT resource, used FROM quota_usages WHERE project_id = :project AND user_id = ''")


def _body(**more: Any) -> dict[str, Any]:
    return {"server": {"name": "web", "flavorRef": "1", "imageRef": IMAGE, **more}}


async def test_one_transaction_holds_index_operation_and_quota(cloud: Cloud) -> None:
    uuid = await cloud.boot("web", metadata={"a": "b"}, availability_zone="nova")
    rows = await cloud.whole.fetch(_OPERATIONS, {})
    assert [(row[1], row[2], row[3], row[4]) for row in rows] == [("schedule", "ready", uuid, 1)]
    assert cloud.wakes == [("operation", rows[0][0])]
    inputs = msgspec.json.decode(rows[0][5], type=ScheduleInputs)
    assert inputs.servers == (uuid,)
    assert inputs.zone == "nova"
    assert inputs.resources == {"VCPU": 1, "MEMORY_MB": 64, "DISK_GB": 1}
    assert [each.network_id for each in inputs.networks] == [NETWORK]
    used = {row[0]: row[1] for row in await cloud.whole.fetch(_USED, {"project": DEMO})}
    assert used == {"instances": 1, "cores": 1, "ram": 64}


async def test_several_at_once_are_numbered_and_share_a_reservation(cloud: Cloud) -> None:
    answer = await cloud.call("POST", "/servers", _body(min_count=3, max_count=3, return_reservation_id=True))
    assert answer.status_code == 202
    reservation = answer.json()["reservation_id"]
    shown = (await cloud.get("/servers/detail", who="demo-admin", version="2.3"))["servers"]
    assert sorted(each["name"] for each in shown) == ["web-1", "web-2", "web-3"]
    assert {each["OS-EXT-SRV-ATTR:reservation_id"] for each in shown} == {reservation}
    rows = await cloud.whole.fetch(_OPERATIONS, {})
    assert len(rows) == 1
    assert len(msgspec.json.decode(rows[0][5], type=ScheduleInputs).servers) == 3
    worse = await cloud.call("POST", "/servers", _body(min_count=3, max_count=2))
    assert worse.json()["badRequest"]["message"] == "min_count must be <= max_count"


async def test_fifty_at_once_against_a_quota_of_ten_give_ten(cloud: Cloud) -> None:
    answers = await asyncio.gather(*(cloud.call("POST", "/servers", _body()) for _ in range(50)))
    assert sorted(answer.status_code for answer in answers) == [202] * 10 + [403] * 40
    refused = next(answer for answer in answers if answer.status_code == 403)
    assert refused.json() == {
        "forbidden": {
            "code": 403,
            "message": "Quota exceeded for instances: Requested 1, but already used 10 of 10 instances",
        }
    }
    assert len((await cloud.get("/servers"))["servers"]) == 10
    used = {row[0]: row[1] for row in await cloud.whole.fetch(_USED, {"project": DEMO})}
    assert used == {"instances": 10, "cores": 10, "ram": 640}


async def test_as_many_as_the_quota_lets_between_min_and_max(cloud: Cloud) -> None:
    answer = await cloud.call("POST", "/servers", _body(min_count=2, max_count=20))
    assert answer.status_code == 202
    assert len((await cloud.get("/servers"))["servers"]) == 2
    over = await cloud.call("POST", "/servers", {"server": {**_body()["server"], "min_count": 9}})
    assert over.json()["forbidden"]["message"] == (
        "Quota exceeded for instances: Requested 9, but already used 2 of 10 instances"
    )


async def test_a_users_own_limit_counts_what_the_user_has(cloud: Cloud) -> None:
    await cloud.boot("mine")
    await cloud.boot("theirs", who="friend")
    from api.api_cloud import TOKENS

    path = f"/os-quota-sets/{DEMO}?user_id={TOKENS['member'].user_id}"
    assert (await cloud.call("PUT", path, {"quota_set": {"instances": 2}}, who="admin")).status_code == 200
    assert (await cloud.call("POST", "/servers", _body())).status_code == 202
    assert (await cloud.call("POST", "/servers", _body())).status_code == 403
    assert (await cloud.call("POST", "/servers", _body(), who="friend")).status_code == 202


async def test_the_same_key_gives_the_same_server(cloud: Cloud) -> None:
    key = {"idempotency-key": "k-1"}
    first = await cloud.call("POST", "/servers", _body(), headers=key)
    again = await cloud.call("POST", "/servers", _body(), headers=key)
    assert again.status_code == 202
    assert again.headers["idempotent-replayed"] == "true"
    assert again.headers["location"] == first.headers["location"]
    assert "adminPass" in first.json()["server"]
    assert again.json()["server"] == {k: v for k, v in first.json()["server"].items() if k != "adminPass"}
    assert len((await cloud.get("/servers"))["servers"]) == 1
    assert (await cloud.call("POST", "/servers", _body(metadata={"a": "b"}), headers=key)).status_code == 422
    assert (await cloud.call("POST", "/servers", _body(), headers=key, who="friend")).status_code == 202


async def test_the_same_key_many_times_at_once_makes_one_server(cloud: Cloud) -> None:
    key = {"idempotency-key": "k-2"}
    answers = await asyncio.gather(*(cloud.call("POST", "/servers", _body(), headers=key) for _ in range(8)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["server"]["id"] for answer in answers}) == 1
    assert len((await cloud.get("/servers"))["servers"]) == 1


@pytest.mark.parametrize(
    ("more", "status", "message"),
    [
        ({"flavorRef": "nope"}, 400, "Flavor nope could not be found."),
        ({"flavorRef": "secret"}, 400, "Flavor secret could not be found."),
        ({"imageRef": "7d3c3a4c-6c1e-4e5a-8f0a-2d6c7ac2b0b1"}, 400, "Can not find requested image"),
        ({"imageRef": ""}, 400, "Invalid imageRef provided."),
        ({"imageRef": BIG_IMAGE}, 400, "Flavor's memory is too small for requested image."),
        ({"imageRef": BIG_IMAGE, "flavorRef": 3}, 400, "Flavor's disk is too small for requested image. "
         "Flavor disk is 3221225472 bytes, image is 53687091200 bytes."),
        ({"key_name": "nope"}, 400, "Invalid key_name provided."),
        ({"availability_zone": "moon"}, 400, "The requested availability zone is not available"),
        ({"availability_zone": "nova:h:n:x"}, 400, "Unable to parse availability_zone"),
        ({"availability_zone": "nova:host-1"}, 403, "Policy doesn't allow os_compute_api:servers:create:forced_host "
                                                    "to be performed."),
        ({"networks": [{"uuid": IMAGE}]}, 400, f"Network {IMAGE} could not be found."),
        ({"networks": [{}]}, 400, "Bad networks format: missing 'uuid' or 'port'"),
        ({"metadata": {str(i): "" for i in range(129)}}, 403, "Quota exceeded, too many metadata items. Limit is 128."),
        ({"block_device_mapping_v2": [{"source_type": "volume", "destination_type": "volume", "uuid": IMAGE}]}, 400,
         "Block Device Mapping is Invalid: only the image of the server itself can be its root disk here."),
    ],
)  # fmt: skip
async def test_what_cannot_be_is_refused_before_anything_is_made(
    cloud: Cloud, more: dict[str, Any], status: int, message: str
) -> None:
    answer = await cloud.call("POST", "/servers", _body(**more))
    assert (answer.status_code, next(iter(answer.json().values()))["message"]) == (status, message)
    assert (await cloud.get("/servers"))["servers"] == []


async def test_readers_create_nothing(cloud: Cloud) -> None:
    assert (await cloud.call("POST", "/servers", _body(), who="reader")).status_code == 403


async def test_networks_by_word_are_asked_for_from_2_37_on(cloud: Cloud) -> None:
    for word in ("none", "auto"):
        assert (await cloud.call("POST", "/servers", _body(networks=word), version="2.37")).status_code == 202
        assert (await cloud.call("POST", "/servers", _body(networks=word), version="2.36")).status_code == 400
    assert (await cloud.call("POST", "/servers", _body(), version="2.37")).status_code == 400


async def test_names_hosts_and_hints_are_kept(cloud: Cloud) -> None:
    made = await cloud.call("POST", "/os-keypairs", {"keypair": {"name": "key"}}, who="demo-admin")
    assert made.status_code == 200
    body = _body(
        name="My Web.Server_1", description=None, tags=["b", "a", "b"], key_name="key", config_drive="true",
        networks="auto",
    )  # fmt: skip
    body["OS-SCH-HNT:scheduler_hints"] = {"same_host": IMAGE}
    answer = await cloud.call("POST", "/servers", body, who="demo-admin", version="2.104")
    uuid = answer.json()["server"]["id"]
    shown = (await cloud.get(f"/servers/{uuid}", who="demo-admin", version="2.104"))["server"]
    assert shown["OS-EXT-SRV-ATTR:hostname"] == "my-web-server-1"
    assert shown["tags"] == ["a", "b"]
    assert shown["key_name"] == "key"
    assert shown["config_drive"] == "True"
    assert shown["description"] is None
    assert shown["scheduler_hints"] == {"same_host": IMAGE}
    assert shown["image"]["properties"] == {"hw_disk_bus": "virtio"}
    assert shown["flavor"]["original_name"] == "m1.nano"


async def test_addresses_are_kept_in_their_shortest_form(cloud: Cloud) -> None:
    uuid = await cloud.boot(accessIPv6="0000:0000:0000:0000:0000:babe:220.12.22.2")
    assert (await cloud.get(f"/servers/{uuid}"))["server"]["accessIPv6"] == "::babe:dc0c:1602"
