"""Real guests in the one-command cloud, as a newcomer meets them: virsh agrees at each step."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from cloud_api import Account, account
from cloud_audit import clean, domains, virsh
from cloud_console import Console
from cloud_process import CloudProcess, call, place

pytestmark = [
    pytest.mark.libvirt,
    pytest.mark.timeout(600),
    pytest.mark.skipif(os.geteuid() != 0 or shutil.which("virsh") is None, reason="needs root and libvirt"),
]
PROMPT = "login:"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJrq8Y0K0s6g6oHyO8e0w9yQJ4bU6v4bWj1sN2b0e8aB me@example"


@pytest.fixture(scope="module")
def cloud(guest_image: Path) -> Iterator[CloudProcess]:
    """Root's cloud of real guests."""
    with place() as parent:
        made = CloudProcess(parent / "cloud", driver="libvirt")
        made.folder.mkdir(mode=0o711)
        (made.folder / "guest-image").symlink_to(guest_image)
        try:
            made.start(120)
            yield made
        finally:
            made.remove()
            assert not any(str(made.folder) in p.read_text(errors="replace") for p in command_lines())


def command_lines() -> list[Path]:
    return [p for p in Path("/proc").glob("[0-9]*/cmdline") if p.exists() and p.parent.name != str(os.getpid())]


@pytest.fixture
async def demo(cloud: CloudProcess) -> AsyncIterator[Account]:
    async with account(cloud) as made:
        yield made
        await made.delete_all()
        assert domains(cloud.folder) == {}


async def said(api: Account, uuid: str, text: str, times: int = 1, seconds: float = 90.0) -> str:
    """The console log once it holds `text` that often."""
    output = ""
    try:
        async with asyncio.timeout(seconds):
            while output.count(text) < times:
                answer = await api.http.post(
                    f"/compute/v2.1/servers/{uuid}/action", json={"os-getConsoleOutput": {}}
                )
                output = answer.json()["output"] if answer.status_code == 200 else ""
                await asyncio.sleep(0.4)
    except TimeoutError:
        raise AssertionError(f"not said: {text!r} ({times}x); {output[-1500:]}") from None
    return output


async def test_a_newcomers_first_guest(cloud: CloudProcess, demo: Account, client: None, tmp_path: Path) -> None:
    ask = cloud.openstack
    (tmp_path / "key.pub").write_text(KEY)
    key = KEY.split()[1]
    assert "kilonova-guest" in ask("image", "list", "-f", "value")
    assert "m1.nano" in ask("flavor", "list", "-f", "value")
    assert "private" in ask("network", "list", "-f", "value")
    ask("keypair", "create", "--public-key", str(tmp_path / "key.pub"), "mine")
    wish = ("--flavor", "m1.micro", "--image", "kilonova-guest", "--network", "private", "--key-name", "mine")
    assert ask("server", "create", *wish, "--wait", "web", "-f", "value", "-c", "status").strip() == "ACTIVE"
    ((uuid, state),) = domains(cloud.folder).items()
    assert state == "running"
    await said(demo, uuid, f"web {PROMPT}")
    log = ask("console", "log", "show", "web")
    assert f"web {PROMPT}" in log and key in log
    assert key in call("console", "--dir", str(cloud.folder), "web").stdout
    with Console(cloud.folder, "web") as console:
        console.expect(b"leave with Ctrl-]")
        console.type(b"\n")
        console.expect(f"web {PROMPT}".encode())
        assert console.leave() == 0

    ask("server", "stop", "web")
    await demo.until(uuid, "SHUTOFF", seconds=90)
    assert domains(cloud.folder) == {uuid: "shut off"}
    stopped = call("console", "--dir", str(cloud.folder), "web")
    assert stopped.returncode == 0 and PROMPT in stopped.stdout
    ask("server", "start", "web")
    await demo.until(uuid, "ACTIVE")
    assert domains(cloud.folder) == {uuid: "running"}
    await said(demo, uuid, f"web {PROMPT}", 2)
    ask("server", "reboot", "--soft", "--wait", "web")
    await said(demo, uuid, f"web {PROMPT}", 3)
    ask("server", "reboot", "--hard", "--wait", "web")
    await said(demo, uuid, f"web {PROMPT}", 4)
    assert domains(cloud.folder) == {uuid: "running"}
    await clean(cloud.folder, "libvirt")
    ask("server", "delete", "--wait", "web")
    assert domains(cloud.folder) == {}
    assert not list((cloud.folder / "instances").iterdir())
    ask("keypair", "delete", "mine")


async def test_guests_outlive_the_cloud_and_what_happens_meanwhile_is_seen(cloud: CloudProcess, demo: Account) -> None:
    uuids = []
    for name in ("kept", "off"):
        answer = await demo.create(name, flavor="2")
        uuids.append(answer.json()["server"]["id"])
    for uuid in uuids:
        await demo.until(uuid, "ACTIVE", seconds=90)
    await said(demo, uuids[0], PROMPT)
    pids = guest_pids(uuids)
    cloud.kill()
    assert guest_pids(uuids) == pids and set(domains(cloud.folder).values()) == {"running"}
    await asyncio.to_thread(cloud.start)
    async with account(cloud) as api:
        for uuid in uuids:
            assert (await api.until(uuid, "ACTIVE"))["OS-EXT-STS:power_state"] == 1
        await asyncio.to_thread(cloud.stop)
        assert guest_pids(uuids) == pids
        virsh("destroy", uuids[1])
        await asyncio.to_thread(cloud.start)
    async with account(cloud) as api:
        assert (await api.until(uuids[1], "SHUTOFF"))["OS-EXT-STS:power_state"] == 4
        assert (await api.until(uuids[0], "ACTIVE"))["OS-EXT-STS:power_state"] == 1
        assert guest_pids(uuids[:1]) == pids[:1]
        await clean(cloud.folder, "libvirt")
        demo.http.headers["x-auth-token"] = api.http.headers["x-auth-token"]


async def test_what_happens_behind_our_back_is_shown(cloud: CloudProcess, demo: Account) -> None:
    uuid = (await demo.create("behind", flavor="2")).json()["server"]["id"]
    await demo.until(uuid, "ACTIVE", seconds=90)
    virsh("destroy", uuid)
    await demo.until(uuid, "SHUTOFF", seconds=20)
    await demo.act(uuid, os_start=None)
    await demo.until(uuid, "ACTIVE")
    await said(demo, uuid, f"behind {PROMPT}")
    # From inside: the guest obeys its power button and is off by itself.
    virsh("shutdown", uuid)
    await demo.until(uuid, "SHUTOFF", seconds=60)
    assert domains(cloud.folder) == {uuid: "shut off"}
    await clean(cloud.folder, "libvirt")


async def test_console_errors_are_clear(cloud: CloudProcess, demo: Account) -> None:
    def line(*words: str) -> str:
        done = call("console", "--dir", str(cloud.folder), *words)
        assert done.returncode == 1 and "Traceback" not in done.stderr
        return done.stderr

    assert "no server 'nobody'" in line("nobody")
    for _ in range(2):
        assert (await demo.create("twin", flavor="2")).status_code == 202
    servers = await demo.settled(120)
    assert all(s["id"] in line("twin") for s in servers) and "2 servers are named 'twin'" in line("twin")
    assert "no cloud was made" in call("console", "--dir", str(cloud.folder / "none"), "x").stderr


def guest_pids(uuids: list[str]) -> list[str]:
    found = []
    for uuid in uuids:
        pid = subprocess.run(["pgrep", "-f", f"qemu-system.*{uuid}"], capture_output=True, text=True, check=True)
        found.append(pid.stdout.strip())
    return found
