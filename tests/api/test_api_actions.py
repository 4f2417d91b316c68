"""Actions on servers: what is admitted, what is refused and why, what is recorded."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from api.api_cloud import Cloud, new_uuid
from kilonova.db.statement import Statement
from kilonova.model.operation import RebootInputs, StopInputs

_OPERATIONS = Statement(
    "SELECT story, number, superseded, before_image, inputs FROM operations"
    " WHERE target = :uuid AND story <> 'schedule' ORDER BY number"
)
_ROW = Statement("SELECT task_state, next_number, generation, operation_id FROM servers WHERE uuid = :uuid")


async def _act(cloud: Cloud, uuid: str, body: dict[str, Any], **more: Any) -> Any:
    return await cloud.call("POST", f"/servers/{uuid}/action", body, **more)


async def test_an_admitted_action_is_one_row_one_operation_and_one_wake(cloud: Cloud) -> None:
    uuid = await cloud.active()
    cloud.wakes.clear()
    assert (await _act(cloud, uuid, {"os-stop": None})).status_code == 202
    row = await cloud.cell.fetch_one(_ROW, {"uuid": uuid})
    assert row is not None and row[0] == "powering-off"
    operations = await cloud.cell.fetch(_OPERATIONS, {"uuid": uuid})
    story, number, superseded, before_image, inputs = operations[0]
    assert (story, number, superseded) == ("stop", 2, 0)
    assert msgspec.json.decode(before_image) == {"vm_state": "active", "task_state": None, "power_state": 1}
    assert msgspec.json.decode(inputs, type=StopInputs) == StopInputs(server=uuid, graceful_s=60)
    assert cloud.wakes == [("operation", row[3])]
    actions = (await cloud.get(f"/servers/{uuid}/os-instance-actions"))["instanceActions"]
    assert [(each["action"], each["message"]) for each in actions] == [("stop", None)]


async def test_of_many_at_once_one_is_admitted(cloud: Cloud) -> None:
    uuid = await cloud.active()
    answers = await asyncio.gather(*(_act(cloud, uuid, {"os-stop": None}) for _ in range(10)))
    assert sorted(answer.status_code for answer in answers) == [202] + [409] * 9


@pytest.mark.parametrize(
    ("fields", "body", "message"),
    [
        ({}, {"os-start": None}, "Cannot 'start' instance {} while it is in vm_state active"),
        ({"vm_state": "stopped"}, {"os-stop": None}, "Cannot 'stop' instance {} while it is in vm_state stopped"),
        ({"vm_state": "stopped"}, {"reboot": {"type": "SOFT"}},
         "Cannot 'reboot' instance {} while it is in vm_state stopped"),
        ({"task_state": "image_snapshot"}, {"reboot": {"type": "HARD"}},
         "Cannot 'reboot' instance {} while it is in task_state image_snapshot"),
        ({"host": None, "vm_state": "error"}, {"os-stop": None}, "Instance {} is not ready"),
        ({"launched_at": None, "vm_state": "error"}, {"os-stop": None},
         "Instance {} is in an invalid state for 'stop'"),
        ({"locked_by": "owner"}, {"os-stop": None}, "Instance {} is locked"),
        ({"locked_by": "owner"}, {"forceDelete": None}, "Instance {} is locked"),
    ],
)  # fmt: skip
async def test_a_refusal_says_why(cloud: Cloud, fields: dict[str, Any], body: Any, message: str) -> None:
    uuid = await cloud.boot()
    await cloud.place(uuid, **fields)
    answer = await _act(cloud, uuid, body)
    assert answer.status_code == 409
    assert answer.json()["conflictingRequest"]["message"] == message.format(uuid)


@pytest.mark.parametrize("task_state", [None, "rebooting", "reboot_started", "suspending"])
async def test_a_hard_reboot_passes_a_soft_one(cloud: Cloud, task_state: str | None) -> None:
    uuid = await cloud.boot()
    await cloud.place(uuid, task_state=task_state)
    assert (await _act(cloud, uuid, {"reboot": {"type": "Hard"}})).status_code == 202
    rows = await cloud.cell.fetch(_OPERATIONS, {"uuid": uuid})
    assert msgspec.json.decode(rows[0][4], type=RebootInputs).kind == "HARD"
    assert (await cloud.get(f"/servers/{uuid}"))["server"]["status"] == "HARD_REBOOT"


async def test_delete_takes_the_lane_in_any_state(cloud: Cloud) -> None:
    uuid = await cloud.active()
    assert (await _act(cloud, uuid, {"os-stop": None})).status_code == 202
    assert (await cloud.call("DELETE", f"/servers/{uuid}")).status_code == 204
    rows = await cloud.cell.fetch(_OPERATIONS, {"uuid": uuid})
    assert [(row[0], row[2]) for row in rows] == [("stop", 1), ("delete", 0)]
    assert (await cloud.call("DELETE", f"/servers/{uuid}")).status_code == 204
    assert len(await cloud.cell.fetch(_OPERATIONS, {"uuid": uuid})) == 2


async def test_a_lock_holds_until_it_is_lifted_by_who_may(cloud: Cloud) -> None:
    uuid = await cloud.active()
    assert (await _act(cloud, uuid, {"lock": {"locked_reason": "mine"}}, version="2.73")).status_code == 202
    shown = (await cloud.get(f"/servers/{uuid}", version="2.73"))["server"]
    assert (shown["locked"], shown["locked_reason"]) == (True, "mine")
    assert (await cloud.call("DELETE", f"/servers/{uuid}")).status_code == 409
    assert (await _act(cloud, uuid, {"unlock": None})).status_code == 202
    assert (await _act(cloud, uuid, {"lock": None}, who="admin")).status_code == 202
    assert (await _act(cloud, uuid, {"unlock": None})).status_code == 403
    assert (await _act(cloud, uuid, {"os-stop": None}, who="demo-admin")).status_code == 202
    assert (await _act(cloud, uuid, {"unlock": None}, who="admin")).status_code == 202
    shown = (await cloud.get(f"/servers/{uuid}", version="2.9"))["server"]
    assert shown["locked"] is False
    actions = (await cloud.get(f"/servers/{uuid}/os-instance-actions"))["instanceActions"]
    assert [each["action"] for each in actions] == ["unlock", "stop", "lock", "unlock", "lock"]


async def test_an_admin_sets_the_state_and_takes_the_lane(cloud: Cloud) -> None:
    uuid = await cloud.active()
    await _act(cloud, uuid, {"os-stop": None})
    assert (await _act(cloud, uuid, {"os-resetState": {"state": "error"}})).status_code == 403
    assert (await _act(cloud, uuid, {"os-resetState": {"state": "error"}}, who="admin")).status_code == 202
    shown = (await cloud.get(f"/servers/{uuid}"))["server"]
    assert (shown["status"], shown["OS-EXT-STS:task_state"]) == ("ERROR", None)
    rows = await cloud.cell.fetch(_OPERATIONS, {"uuid": uuid})
    assert [(row[0], row[2]) for row in rows] == [("stop", 1), ("reset", 0)]


async def test_a_server_without_a_cell_waits_or_is_deleted(cloud: Cloud) -> None:
    uuid = await cloud.boot()
    refused = await _act(cloud, uuid, {"os-stop": None})
    assert refused.status_code == 409
    assert "while it is in vm_state building" in refused.text
    changed = await cloud.call("PUT", f"/servers/{uuid}", {"server": {"name": "renamed"}})
    assert changed.json()["server"]["name"] == "renamed"
    assert (await cloud.call("DELETE", f"/servers/{uuid}")).status_code == 204
    assert (await cloud.get(f"/servers/{uuid}"))["server"]["OS-EXT-STS:task_state"] == "deleting"


async def test_updates_show_what_they_did(cloud: Cloud) -> None:
    uuid = await cloud.active()
    body = {"server": {"name": "new", "description": "d", "accessIPv4": "192.0.2.1", "OS-DCF:diskConfig": "AUTO"}}
    shown = (await cloud.call("PUT", f"/servers/{uuid}", body, version="2.19")).json()["server"]
    assert (shown["name"], shown["description"], shown["accessIPv4"]) == ("new", "d", "192.0.2.1")
    assert shown["OS-DCF:diskConfig"] == "AUTO"
    assert "OS-EXT-STS:vm_state" not in shown
    assert [each["name"] for each in (await cloud.get("/servers"))["servers"]] == ["new"]
    shown = (await cloud.call("PUT", f"/servers/{uuid}", {"server": {"hostname": "h1"}}, version="2.90")).json()
    assert shown["server"]["OS-EXT-SRV-ATTR:hostname"] == "h1"
    refused = await cloud.call(
        "PUT", f"/servers/{uuid}", {"server": {"pinned_availability_zone": "moon"}}, version="2.104"
    )
    assert refused.status_code == 409


async def test_the_console_is_read_from_the_host(cloud: Cloud) -> None:
    uuid = await cloud.active()
    shown = await _act(cloud, uuid, {"os-getConsoleOutput": {"length": 10}})
    assert (shown.status_code, shown.json()) == (200, {"output": "login:"})
    waiting = await cloud.boot()
    assert (await _act(cloud, waiting, {"os-getConsoleOutput": {}})).status_code == 409
    assert (await _act(cloud, uuid, {"os-getConsoleOutput": {}}, who="reader")).status_code == 403


async def test_what_is_not_there_or_not_ones_own_is_the_same_404(cloud: Cloud) -> None:
    uuid = await cloud.active()
    missing = new_uuid()
    for who, wanted in (("member", missing), ("other", uuid), ("member", "x"), ("member", "x" * 300)):
        answer = await _act(cloud, wanted, {"os-stop": None}, who=who)
        assert answer.status_code == 404
        assert answer.json()["itemNotFound"]["message"] == f"Instance {wanted[:100]} could not be found."


async def test_metadata_and_tags(cloud: Cloud) -> None:
    uuid = await cloud.boot("web", metadata={"a": "1"})
    assert (await cloud.call("POST", f"/servers/{uuid}/metadata", {"metadata": {"b": "2"}})).status_code == 409
    await cloud.place(uuid)
    path = f"/servers/{uuid}/metadata"
    assert (await cloud.call("POST", path, {"metadata": {"b": "2"}})).json() == {"metadata": {"a": "1", "b": "2"}}
    assert (await cloud.call("PUT", path + "/b", {"meta": {"b": "3"}})).json() == {"meta": {"b": "3"}}
    assert (await cloud.call("PUT", path + "/b", {"meta": {"c": "3"}})).status_code == 400
    assert (await cloud.call("DELETE", path + "/a")).status_code == 204
    assert (await cloud.call("DELETE", path + "/a")).status_code == 404
    assert await cloud.get(path) == {"metadata": {"b": "3"}}
    too_many = {str(i): "" for i in range(129)}
    assert (await cloud.call("PUT", path, {"metadata": too_many})).status_code == 403
    assert (await cloud.call("PUT", path, {"metadata": {}}, who="reader")).status_code == 403

    tags = f"/servers/{uuid}/tags"
    assert (await cloud.call("PUT", tags + "/one", version="2.26")).status_code == 201
    assert (await cloud.call("PUT", tags + "/one", version="2.26")).status_code == 204
    assert (await cloud.call("GET", tags + "/one", version="2.26")).status_code == 204
    assert (await cloud.call("GET", tags + "/two", version="2.26")).status_code == 404
    listed = await cloud.call("PUT", tags, {"tags": ["x", "y"]}, version="2.26")
    assert listed.json() == {"tags": ["x", "y"]}
    full = {"tags": [str(i) for i in range(50)]}
    assert (await cloud.call("PUT", tags, full, version="2.26")).status_code == 200
    assert (await cloud.call("PUT", tags + "/more", version="2.26")).status_code == 400
    assert (await cloud.call("DELETE", tags, version="2.26")).status_code == 204
    assert await cloud.get(tags, version="2.26") == {"tags": []}


async def test_history_in_pages_and_after_the_end(cloud: Cloud) -> None:
    uuid = await cloud.active()
    for _ in range(3):
        await _act(cloud, uuid, {"lock": None})
        await _act(cloud, uuid, {"unlock": None})
    path = f"/servers/{uuid}/os-instance-actions"
    page = await cloud.get(path + "?limit=4", version="2.58")
    assert [each["action"] for each in page["instanceActions"]] == ["unlock", "lock", "unlock", "lock"]
    rest = await cloud.get(page["links"][0]["href"].removeprefix("http://cloud.test/compute/v2.1"), version="2.58")
    assert [each["action"] for each in rest["instanceActions"]] == ["unlock", "lock"]
    request_id = page["instanceActions"][0]["request_id"]
    shown = (await cloud.get(f"{path}/{request_id}", version="2.51"))["instanceAction"]
    assert (shown["action"], shown["events"]) == ("unlock", [])
    assert "events" not in (await cloud.get(f"{path}/{request_id}"))["instanceAction"]
    assert (await cloud.call("GET", f"{path}/req-nope")).status_code == 404
