"""A compute process without a database boots a real guest: the image over HTTP, the config drive over the queue."""

from __future__ import annotations

import shutil

import pytest

from services.services_cloud import Client, SeveralProcesses, until

pytestmark = [
    pytest.mark.libvirt,
    pytest.mark.postgres,
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("virsh") is None, reason="libvirt is not installed"),
]


async def _up(admin: Client) -> bool:
    found = (await admin.get("/os-hypervisors/detail"))["hypervisors"]
    return [each["state"] for each in found] == ["up"]


async def test_a_real_guest_under_services_of_their_own(real_host: SeveralProcesses) -> None:
    async with real_host.client("api-1") as one:
        async with real_host.client("api-1", "kilonova-admin") as admin:
            await until(lambda: _up(admin), "the host to be up")
        server = await one.create("alone", config_drive=True, flavorRef="2")
        await one.settled([server], "ACTIVE", 60)

        async def logged_in() -> bool:
            console = await one.act(server, {"os-getConsoleOutput": {}})
            return "login:" in console["output"] and "alone" in console["output"]

        await until(logged_in, "the guest's login prompt with its name", 60)
        await one.delete(server)
        await one.settled([server], "DELETED")
    fetched = list((real_host.folder / "host" / "images").rglob("*")) if (real_host.folder / "host").exists() else []
    assert fetched, "the image came over HTTP into the host's own cache"
