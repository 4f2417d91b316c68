"""The shortest way through: make a server, look at it, delete it."""

from __future__ import annotations

from api.api_cloud import IMAGE, Cloud


async def test_a_server_is_asked_for_shown_listed_and_deleted(cloud: Cloud) -> None:
    asked = await cloud.call(
        "POST", "/servers", {"server": {"name": "web", "flavorRef": "1", "imageRef": IMAGE}}
    )
    assert asked.status_code == 202, asked.text
    made = asked.json()["server"]
    assert set(made) == {"id", "links", "OS-DCF:diskConfig", "security_groups", "adminPass"}
    assert cloud.wakes[0][0] == "operation"

    shown = (await cloud.get(f"/servers/{made['id']}"))["server"]
    assert shown["status"] == "BUILD"
    assert shown["OS-EXT-STS:task_state"] == "scheduling"
    assert shown["name"] == "web"
    assert [each["id"] for each in (await cloud.get("/servers"))["servers"]] == [made["id"]]
    assert (await cloud.get("/servers/detail"))["servers"] == [shown]

    gone = await cloud.call("DELETE", f"/servers/{made['id']}")
    assert gone.status_code == 204, gone.text
    shown = (await cloud.get(f"/servers/{made['id']}"))["server"]
    assert shown["OS-EXT-STS:task_state"] == "deleting"


async def test_a_placed_server_is_found_in_its_cell(cloud: Cloud) -> None:
    uuid = await cloud.active()
    assert (await cloud.get(f"/servers/{uuid}"))["server"]["status"] == "ACTIVE"
    assert [each["status"] for each in (await cloud.get("/servers/detail"))["servers"]] == ["ACTIVE"]
    stopped = await cloud.call("POST", f"/servers/{uuid}/action", {"os-stop": None})
    assert stopped.status_code == 202, stopped.text
    again = await cloud.call("POST", f"/servers/{uuid}/action", {"os-stop": None})
    assert again.status_code == 409
    message = again.json()["conflictingRequest"]["message"]
    assert f"Cannot 'stop' instance {uuid} while it is in task_state powering-off" in message
    assert "stop under way since" in again.text


async def test_flavors_are_listed(cloud: Cloud) -> None:
    assert [each["name"] for each in (await cloud.get("/flavors"))["flavors"]] == ["m1.nano", "m1.tiny", "m1.large"]


async def test_a_key_is_made_and_found(cloud: Cloud) -> None:
    made = await cloud.call("POST", "/os-keypairs", {"keypair": {"name": "mine"}})
    assert made.status_code == 200, made.text
    assert "PRIVATE KEY" in made.json()["keypair"]["private_key"]
    assert (await cloud.get("/os-keypairs/mine"))["keypair"]["fingerprint"] == made.json()["keypair"]["fingerprint"]
