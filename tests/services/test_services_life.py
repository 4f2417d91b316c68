"""Two API, two conductor and one compute process on PostgreSQL: servers live through what processes die of."""

from __future__ import annotations

import asyncio
import signal
import socket
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest

from kilonova.cli.compose.metadata import MetadataProcess
from kilonova.cli.main import main
from kilonova.cli.manage.look import audit
from kilonova.config import load
from kilonova.db.open import open_databases
from services.services_cloud import Process, SeveralProcesses, free_port, until

pytestmark = [pytest.mark.postgres, pytest.mark.slow]


async def test_a_server_lives_through_both_apis(several: SeveralProcesses) -> None:
    async with several.client("api-1") as one, several.client("api-2") as two:
        server = await one.create("walk")
        await two.settled([server], "ACTIVE")
        shown = (await two.get(f"/servers/{server}"))["server"]
        assert shown["addresses"]
        console = await two.act(server, {"os-getConsoleOutput": {}})
        assert "output" in console
        await two.act(server, {"os-stop": None})
        await one.settled([server], "SHUTOFF")
        await one.delete(server)
        await two.settled([server], "DELETED")


async def test_hosts_are_shown_up_at_every_api(several: SeveralProcesses) -> None:
    for api in ("api-1", "api-2"):
        async with several.client(api, "kilonova-admin") as admin:

            async def all_up(admin: Any = admin) -> bool:
                found = (await admin.get("/os-services?binary=nova-compute"))["services"]
                return len(found) == 5 and {each["state"] for each in found} == {"up"}

            await until(all_up, "five hosts to be up")


async def test_events_go_on_at_the_other_api(several: SeveralProcesses) -> None:
    """What one API told and what the other tells after it is everything, once, in order."""
    async with several.client("api-1") as one, several.client("api-2") as two:
        seen: list[tuple[str, int]] = []
        async with one.events() as events:
            resume = (await anext(events))["id"]
            first = await one.create("stream")
            async with asyncio.timeout(20):
                async for event in events:
                    resume = event["id"]
                    if event.get("event") == "server":
                        seen.append((event["data"]["id"], event["data"]["generation"]))
                        break
        # Nobody listens now.
        await two.settled([first], "ACTIVE")
        async with two.events(resume) as events, asyncio.timeout(20):
            await one.delete(first)
            async for event in events:
                assert event.get("event") != "reset"
                if event.get("event") != "server":
                    continue
                seen.append((event["data"]["id"], event["data"]["generation"]))
                if event["data"]["state"].get("vm_state") == "deleted":
                    break
        mine = [generation for server, generation in seen if server == first]
        assert mine == sorted(set(mine))
        await one.settled([first], "DELETED")


async def test_a_killed_conductor_leaves_its_work_to_the_other(several: SeveralProcesses) -> None:
    victim = several.processes["conductor-1"]
    async with several.client("api-1") as one, several.client("api-2") as two:
        creates = [asyncio.create_task((one, two)[n % 2].create(f"many-{n}")) for n in range(20)]
        with several.world() as world:
            rule = world.faults.set(method="ensure_guest", point="disk", delay=0.2)
            await until(lambda: several.owns_work("conductor-1"), "the victim to be in the middle of something")
            victim.kill()
            servers = list(await asyncio.gather(*creates))
            world.faults.remove(rule)
        assert await several.owns_work("conductor-1")
        await one.settled(servers, "ACTIVE")
        victim.start()
        deletes = [asyncio.create_task((one, two)[n % 2].delete(server)) for n, server in enumerate(servers)]
        await asyncio.gather(*deletes)
        await two.settled(servers, "DELETED")


async def test_a_conductor_that_was_taken_for_dead_begins_anew(several: SeveralProcesses) -> None:
    """It stands still for longer than the others wait; when it goes on, what it held is not its own any more."""
    sleeper = several.processes["conductor-2"]
    assert sleeper.child is not None
    async with several.client("api-1") as one:
        with several.world() as world:
            rule = world.faults.set(method="ensure_guest", point="disk", delay=0.2)
            servers = list(await asyncio.gather(*[one.create(f"sleep-{n}") for n in range(10)]))
            await until(lambda: several.owns_work("conductor-2"), "the sleeper to be in the middle of something")
            sleeper.child.send_signal(signal.SIGSTOP)
            world.faults.remove(rule)
        try:
            await one.settled(servers, "ACTIVE")
        finally:
            sleeper.child.send_signal(signal.SIGCONT)
        wanted = "begins anew"

        async def anew() -> bool:
            return wanted in sleeper.said()

        await until(anew, "the sleeper to begin anew", 10)
        await one.settled(servers, "ACTIVE")
        for server in servers:
            await one.delete(server)
        await one.settled(servers, "DELETED")


async def test_lost_connections_to_the_databases_cost_time_only(several: SeveralProcesses) -> None:
    async with several.client("api-1") as one:
        with several.world() as world:
            rule = world.faults.set(method="ensure_guest", point="disk", delay=0.2)
            servers = list(await asyncio.gather(*[one.create(f"cut-{n}") for n in range(10)]))
            for _ in range(3):
                await several.cut_databases()
                await asyncio.sleep(0.2)  # in the middle of what the last cut left
            world.faults.remove(rule)
        await one.settled(servers, "ACTIVE")
        for server in servers:
            await one.delete(server)
        await one.settled(servers, "DELETED")


async def test_a_killed_compute_process_comes_back_to_its_guests(several: SeveralProcesses) -> None:
    node = several.processes["node-1"]
    async with several.client("api-2") as two:
        before = await two.create("before")
        await two.settled([before], "ACTIVE")
        node.kill()
        during = await two.create("during")
        node.start()
        await two.settled([before, during], "ACTIVE")
        await two.act(before, {"reboot": {"type": "HARD"}})
        await two.settled([before], "ACTIVE")
        for server in (before, during):
            await two.delete(server)
        await two.settled([before, during], "DELETED")


async def test_metadata_finds_a_server_by_its_address(several: SeveralProcesses) -> None:
    process = MetadataProcess(load([several.control]), "metadata-2", socket.socket())
    async with several.client("api-1") as one, await open_databases(several.urls, create=False) as databases:
        process.databases = databases
        server = await one.create("addressed")
        await one.settled([server], "ACTIVE")
        networks = (await one.get(f"/servers/{server}"))["server"]["addresses"]
        address = next(iter(networks.values()))[0]["addr"]
        found = await process.by_address(address)
        assert found is not None and found.uuid == server
        assert await process.by_address("192.0.2.7") is None
        assert await process.by_address("not an address") is None
        await one.delete(server)
        await one.settled([server], "DELETED")


def test_a_second_process_in_the_same_place_is_refused(several: SeveralProcesses) -> None:
    for name, why in (("node-1", "already works in"), ("conductor-1", "cannot listen")):
        first = several.processes[name]
        again = Process(several.folder, first.service, first.name, first.words)
        again.output = several.folder / f"{name}.again"
        again.launch().close()
        assert again.child is not None
        assert again.child.wait(10) == 1
        assert why in again.output.read_text().splitlines()[-1]


async def test_nothing_is_left_behind(several: SeveralProcesses) -> None:
    async with await open_databases(several.urls, create=False) as databases:

        async def clean() -> bool:
            return not await audit(databases, several.sim_world)

        try:
            await until(clean, "the audit to find nothing", 10)
        except AssertionError:
            assert await audit(databases, several.sim_world) == []


def test_the_audit_command_names_a_leak(several: SeveralProcesses, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["manage", "audit", "-c", str(several.control), "--sim-world", str(several.sim_world), "--patience", "0"]
    assert main(words) == 0
    leaked = str(uuid4())
    with several.world() as world:
        world.plant("sim-0001", leaked, cloud="of nobody", guest=True)
        try:
            assert main(words) == 1
        finally:
            world.force_forget("sim-0001", leaked)
    assert "guest-leaked" in capsys.readouterr().out


async def test_a_log_is_opened_again_at_sighup(several: SeveralProcesses) -> None:
    for process in several.processes.values():
        moved = process.log.rename(process.log.with_suffix(".1"))
        assert process.child is not None
        process.child.send_signal(signal.SIGHUP)

        async def opened(log: Path = process.log) -> bool:
            return log.exists()  # noqa: ASYNC240 - a look at a small folder

        await until(opened, f"{process.name} to open its log again", 10)
        assert "is ready" in moved.read_text()
        assert process.child.poll() is None


async def test_placement_and_metadata_answer_by_themselves(several: SeveralProcesses) -> None:
    """The two other services that listen; the metadata of a server goes to its own address and to no other."""
    control = ["-c", str(several.control)]
    ports = {"placement": free_port(), "metadata": free_port()}
    processes = [Process(several.folder, name, f"{name}-1", [*control, "--port", str(ports[name])]) for name in ports]
    try:
        for process in processes:
            process.start()
        async with several.client("api-1", "kilonova-admin") as admin, httpx2.AsyncClient() as http:
            for port in ports.values():
                assert (await http.get(f"http://127.0.0.1:{port}/healthcheck")).status_code == 200
                assert "kilonova_http" in (await http.get(f"http://127.0.0.1:{port}/metrics")).text
            listed = await http.get(
                f"http://127.0.0.1:{ports['placement']}/placement/resource_providers", headers=admin.headers
            )
            assert len(listed.json()["resource_providers"]) == 5
            answer = await http.get(f"http://127.0.0.1:{ports['metadata']}/openstack/latest/meta_data.json")
            assert answer.status_code == 404
    finally:
        ends = [process.stop() for process in processes if process.child]
    assert all(code == 0 and seconds < 3 for code, seconds in ends), ends


def test_every_process_ends_in_time(several: SeveralProcesses) -> None:
    ends = {process.name: process.stop() for process in reversed(several.processes.values()) if process.child}
    assert len(ends) == 5
    assert all(code == 0 and seconds < 3 for code, seconds in ends.values()), ends
    for process in several.processes.values():
        assert "Traceback" not in process.said(), process.said()
