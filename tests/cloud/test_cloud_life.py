"""The life of servers in a simulated cloud: over HTTP, and with the official client."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx2
import pytest
from cloud_api import Account, account
from cloud_audit import clean
from cloud_process import CloudProcess, place, running_cloud

from kilonova.compute.virt.sim.world import HostSize

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJrq8Y0K0s6g6oHyO8e0w9yQJ4bU6v4bWj1sN2b0e8aB me@example"
UNLIMITED = "[quota]\ninstances = -1\ncores = -1\nram = -1\n"


async def test_a_servers_life(cloud: CloudProcess, demo: Account) -> None:
    made = await demo.http.post("/compute/v2.1/os-keypairs", json={"keypair": {"name": "k", "public_key": KEY}})
    assert made.status_code in (200, 201), made.text
    answer = await demo.create("life", key_name="k")
    assert answer.status_code == 202
    uuid = answer.json()["server"]["id"]
    server = await demo.until(uuid, "ACTIVE")
    assert server["config_drive"] == "True" and server["key_name"] == "k"
    (address,) = server["addresses"]["private"]
    ports = (await demo.get("/network/v2.0/ports", params={"device_id": uuid}))["ports"]
    assert [p["fixed_ips"][0]["ip_address"] for p in ports] == [address["addr"]]
    said = await demo.http.post(f"/compute/v2.1/servers/{uuid}/action", json={"os-getConsoleOutput": {}})
    assert "config-drive: hostname life" in said.json()["output"] and KEY in said.json()["output"]
    for action, value, state in (
        ("os_stop", None, "SHUTOFF"), ("os_start", None, "ACTIVE"),
        ("reboot", {"type": "SOFT"}, "ACTIVE"), ("reboot", {"type": "HARD"}, "ACTIVE"),
    ):  # fmt: skip
        await demo.act(uuid, **{action: value})
        await demo.until(uuid, state)
    actions = (await demo.get(f"/compute/v2.1/servers/{uuid}/os-instance-actions"))["instanceActions"]
    assert [a["action"] for a in actions] == ["reboot", "reboot", "start", "stop", "create"]
    assert (await demo.http.delete(f"/compute/v2.1/servers/{uuid}")).status_code == 204
    await demo.until(uuid, "DELETED")
    await demo.http.delete("/compute/v2.1/os-keypairs/k")
    records = await clean(cloud.folder)
    assert not records.servers and not records.allocations


async def test_the_official_client(cloud: CloudProcess, demo: Account, client: None, tmp_path: Path) -> None:
    ask = cloud.openstack

    def value(*words: str) -> str:
        return ask(*words, "-f", "value", *(("-c", "status") if words[:2] == ("server", "show") else ())).strip()

    (tmp_path / "key.pub").write_text(KEY)
    assert "kilonova-guest" in ask("image", "list", "-f", "value")
    assert {"m1.nano", "m1.micro", "m1.tiny", "m1.small", "m1.medium", "m1.large"} <= set(
        ask("flavor", "list", "-f", "value", "-c", "Name").split()
    )
    assert "private" in ask("network", "list", "-f", "value")
    ask("keypair", "create", "--public-key", str(tmp_path / "key.pub"), "mine")
    wish = ("--flavor", "m1.micro", "--image", "kilonova-guest", "--network", "private", "--key-name", "mine")
    shown = ask("server", "create", *wish, "--wait", "first", "-f", "value", "-c", "status", "-c", "config_drive")
    assert "ACTIVE" in shown
    assert KEY in ask("console", "log", "show", "first")
    ask("server", "stop", "first")
    await demo.until((await demo.servers())[0]["id"], "SHUTOFF")
    assert value("server", "show", "first") == "SHUTOFF"
    ask("server", "start", "first")
    await demo.until((await demo.servers())[0]["id"], "ACTIVE")
    ask("server", "reboot", "--hard", "--wait", "first")
    ask("server", "delete", "--wait", "first")
    assert ask("server", "list", "-f", "value") == ""
    ask("keypair", "delete", "mine")
    assert "sim-0001" in ask("hypervisor", "list", "-f", "value", cloud="kilonova-admin")
    assert ask("catalog", "list", "-f", "value", "-c", "Type", cloud="kilonova-admin").split()


async def test_sixty_places_take_sixty_of_sixty_four() -> None:
    with place() as parent:
        cloud = CloudProcess(parent / "cloud", sim_hosts=3, settings=UNLIMITED)
        try:
            # 5 cores at 4.0 = 20 places of m1.tiny on each host.
            cloud.size(3, HostSize(vcpus=5, memory_mb=64 * 1024, local_gb=200))
            cloud.start()
            async with account(cloud) as demo:
                whole = await demo.create("whole", min_count=64, max_count=64)
                assert whole.status_code == 202
                servers = await demo.settled()
                assert len(servers) == 64 and {s["status"] for s in servers} == {"ERROR"}
                assert "No valid host was found" in servers[0]["fault"]["message"]
                assert not (await clean(cloud.folder)).allocations
                await demo.delete_all()
                answers = await asyncio.gather(*(demo.create(f"s{n}") for n in range(64)))
                assert {a.status_code for a in answers} == {202}
                servers = await demo.settled()
                states = [s["status"] for s in servers]
                assert (states.count("ACTIVE"), states.count("ERROR")) == (60, 4)
                for server in servers:
                    if server["status"] == "ERROR":
                        assert "No valid host was found" in server["fault"]["message"]
                        told = server["fault"]["message"] + server["fault"].get("details", "")
                        assert "CapacityFilter" in told or "capacity" in told.lower(), server["fault"]
                await clean(cloud.folder)
        finally:
            cloud.remove()


async def test_fifty_creates_against_a_quota_of_ten(cloud: CloudProcess, demo: Account) -> None:
    answers = await asyncio.gather(*(demo.create(f"q{n}", flavor="1") for n in range(50)))
    codes = [a.status_code for a in answers]
    assert (codes.count(202), codes.count(403)) == (10, 40)
    assert all("Quota exceeded" in a.json()["forbidden"]["message"] for a in answers if a.status_code == 403)
    assert {s["status"] for s in await demo.settled()} == {"ACTIVE"}
    records = await clean(cloud.folder)
    assert max(n for key, n in records.quotas.items() if key[2] == "instances") == 10


async def test_events_are_resumed_where_a_connection_broke(cloud: CloudProcess, demo: Account) -> None:
    ((_, start, _),) = await demo.events(0)
    uuid = (await demo.create("told", flavor="1")).json()["server"]["id"]
    await demo.until(uuid, "ACTIVE")
    first = await demo.events(1, start)
    await demo.http.delete(f"/compute/v2.1/servers/{uuid}")
    await demo.until(uuid, "DELETED")
    # From the start again, one connection an event: the same story, nothing lost, nothing twice.
    story: list[tuple[str, int]] = []
    position = start
    while not story or "deleted" not in story[-1][0]:
        ((_, position, data),) = await asyncio.wait_for(demo.events(1, position), 10)
        if data["id"] == uuid and data["kind"] == "server":
            state = data["state"]
            story.append((str(state.get("vm_state") or state.get("status")), data["generation"]))
    generations = [g for _, g in story]
    assert generations == sorted(set(generations)) and len(story) >= 4
    assert first[0][2]["id"] == uuid
    assert any("active" in name.lower() for name, _ in story), story


async def test_events_survive_a_restart() -> None:
    with place() as parent, running_cloud(parent / "cloud") as cloud:
        async with account(cloud) as demo:
            ((_, start, _),) = await demo.events(0)
            uuid = (await demo.create("told", flavor="1")).json()["server"]["id"]
            await demo.until(uuid, "ACTIVE")
            cloud.kill()
            await asyncio.to_thread(cloud.start)
            assert (await asyncio.wait_for(demo.events(1, start), 10))[0][2]["id"] == uuid
            assert (await demo.server(uuid) or {})["status"] == "ACTIVE"


async def test_a_repeated_request_makes_one_server(demo: Account) -> None:
    headers = {"idempotency-key": "once"}
    answers = await asyncio.gather(*(demo.create("same", headers=headers, flavor="1") for _ in range(5)))
    good = [a for a in answers if a.status_code == 202]
    assert good and {a.status_code for a in answers} <= {202, 409}
    assert len({a.json()["server"]["id"] for a in good}) == 1
    assert len(await demo.servers()) == 1
    again = await demo.create("same", headers=headers, flavor="1")
    assert again.headers["idempotent-replayed"] == "true" and "adminPass" not in again.json()["server"]
    assert (await demo.create("other", headers=headers, flavor="1")).status_code == 422


@pytest.mark.parametrize("number", [2, 15])
async def test_the_cloud_ends_within_three_seconds_with_streams_open(number: int) -> None:
    with place() as parent, running_cloud(parent / "cloud") as cloud:
        async with account(cloud) as demo:
            uuid = (await demo.create("kept", flavor="1")).json()["server"]["id"]
            await demo.until(uuid, "ACTIVE")

            async def listen(begun: asyncio.Event) -> str:
                text = ""
                try:
                    async with demo.http.stream("GET", "/compute/v2.1/kilonova/events") as answer:
                        async for line in answer.aiter_lines():
                            text += line
                            begun.set()
                except httpx2.HTTPError:
                    text += "broken"
                return text

            begun = [asyncio.Event() for _ in range(5)]
            streams = [asyncio.create_task(listen(each)) for each in begun]
            await asyncio.wait_for(asyncio.gather(*(each.wait() for each in begun)), 10)
            assert await asyncio.to_thread(cloud.stop, number) < 3
            told = await asyncio.gather(*streams)
            assert all("shutdown" in text and "broken" not in text for text in told), told
        await clean(cloud.folder)
