"""kill -9 of the whole cloud at random moments under creates and deletes: afterwards all agrees.

Repeat a run with KILONOVA_SEED. KILONOVA_KILLS says how often; `./kilonova test --suite chaos` 200 and 20 times.
"""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import shutil
from pathlib import Path

import httpx2
import pytest
from cloud_api import Account, account
from cloud_audit import clean, domains, look
from cloud_process import CloudProcess, place

SEED = int(os.environ.get("KILONOVA_SEED") or secrets.randbelow(1 << 31))
FULL = os.environ.get("KILONOVA_CHAOS") == "full"
SIM_KILLS = int(os.environ.get("KILONOVA_KILLS") or (200 if FULL else 20))
REAL_KILLS = int(os.environ.get("KILONOVA_KILLS") or (20 if FULL else 3))
pytestmark = pytest.mark.slow


class Storm:
    """A stream of requests that loses its server again and again."""

    def __init__(self, seed: int, flavor: str, most: int) -> None:
        self.chance = random.Random(seed)
        self.flavor, self.most = flavor, most
        self.asked = self.answered = self.serial = 0

    async def blow(self, api: Account, width: int) -> None:
        """Until cancelled or cut off: creates while there is room, deletes and power changes."""
        async with asyncio.TaskGroup() as group:
            for _ in range(width):
                group.create_task(self._one_client(api))

    async def _one_client(self, api: Account) -> None:
        while True:
            try:
                self.asked += 1
                await self._one_request(api)
                self.answered += 1
            except httpx2.HTTPError:
                return

    async def _one_request(self, api: Account) -> None:
        servers = await api.servers()
        choice = self.chance.random()
        if choice < 0.5 and len(servers) < self.most:
            self.serial += 1
            count = {"min_count": 1, "max_count": 3} if choice < 0.1 else {}
            answer = await api.create(f"storm-{self.serial}", flavor=self.flavor, **count)
            assert answer.status_code in (202, 403, 503), answer.text
        elif servers:
            server = self.chance.choice(servers)["id"]
            if choice < 0.8:
                answer = await api.http.delete(f"/compute/v2.1/servers/{server}")
                assert answer.status_code in (204, 404, 409, 503), answer.text
            else:
                actions = ({"os-stop": None}, {"os-start": None}, {"reboot": {"type": "HARD"}})
                answer = await api.http.post(
                    f"/compute/v2.1/servers/{server}/action", json=self.chance.choice(actions)
                )
                assert answer.status_code in (202, 404, 409, 503), answer.text


async def one_life(cloud: CloudProcess, storm: Storm, longest: float, width: int) -> None:
    """Start, let the storm blow for a random while (sometimes not even until it answers), kill."""
    moment = storm.chance.random()
    if moment < 0.1:
        cloud.spawn()
        await asyncio.sleep(storm.chance.uniform(0.0, 1.2))
        cloud.kill()
        return
    await asyncio.to_thread(cloud.start)
    async with account(cloud) as api:
        blowing = asyncio.create_task(storm.blow(api, width))
        await asyncio.wait((blowing,), timeout=storm.chance.uniform(0.02, longest))
        cloud.kill()
        await asyncio.wait_for(blowing, 30)


async def survive(cloud: CloudProcess, storm: Storm, *, kills: int, longest: float, width: int) -> None:
    print(f"KILONOVA_SEED={SEED} KILONOVA_KILLS={kills}")
    try:
        await _survive(cloud, storm, kills, longest, width)
    except BaseException:
        print(await evidence(cloud))
        if kept := os.environ.get("KILONOVA_KEEP"):
            cloud.kill()
            shutil.copytree(cloud.folder, kept, dirs_exist_ok=True)
        raise


async def evidence(cloud: CloudProcess) -> str:
    """What is still under way, what the checker finds, and what the log complained of last."""
    records, found = await look(cloud.folder, cloud.driver)
    complaints = [line for line in cloud.log().splitlines() if " ERROR " in line or " WARNING " in line]
    lines = [*map(repr, records.open_operations.items()), *map(repr, found), *map(repr, records.debts)]
    return "\n".join([*lines, *complaints[-20:], cloud.log()[-3000:]])


async def _survive(cloud: CloudProcess, storm: Storm, kills: int, longest: float, width: int) -> None:
    for kill in range(kills):
        await one_life(cloud, storm, longest, width)
        if "Traceback" in cloud.said():
            raise AssertionError(f"after kill {kill}: {cloud.said()}")
    await asyncio.to_thread(cloud.start)
    async with account(cloud) as api:
        servers = await api.settled(120.0)
        records = await clean(cloud.folder, cloud.driver, 60.0)
        assert {s["id"] for s in servers} == set(records.servers)
        print(f"{storm.answered} of {storm.asked} requests answered, {len(servers)} servers at the end")
        await api.delete_all()
    records = await clean(cloud.folder, cloud.driver, 60.0)
    assert not records.servers and not records.allocations and not any(records.quotas.values())
    assert " ERROR " not in cloud.log(), [line for line in cloud.log().splitlines() if " ERROR " in line][:5]


@pytest.mark.timeout(120 + 10 * SIM_KILLS)
async def test_a_sim_cloud_survives_being_killed() -> None:
    with place() as folder:
        cloud = CloudProcess(folder / "cloud", sim_hosts=3, settings="[quota]\ninstances = 40\ncores = -1\nram = -1\n")
        try:
            await survive(cloud, Storm(SEED, "1", 30), kills=SIM_KILLS, longest=0.7, width=6)
        finally:
            cloud.remove()


@pytest.mark.libvirt
@pytest.mark.timeout(300 + 60 * REAL_KILLS)
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
async def test_a_cloud_of_real_guests_survives_being_killed(guest_image: Path) -> None:
    with place() as folder:
        cloud = CloudProcess(folder / "cloud", driver="libvirt")
        cloud.folder.mkdir(mode=0o711)
        (cloud.folder / "guest-image").symlink_to(guest_image)
        try:
            await survive(cloud, Storm(SEED, "2", 6), kills=REAL_KILLS, longest=8.0, width=2)
            assert not domains(cloud.folder)
        finally:
            cloud.remove()
