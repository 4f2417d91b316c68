"""A plain user's cloud: qemu:///session, user-mode networking, a DIR in the home, no rights at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cloud_api import Account, account
from cloud_process import ROOT, CloudProcess, free_port, place
from test_cloud_guests import said

pytestmark = [
    pytest.mark.libvirt,
    pytest.mark.timeout(400),
    pytest.mark.skipif(os.geteuid() != 0 or shutil.which("virsh") is None, reason="needs root and libvirt"),
]
NOBODY = 65534
PLAIN = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--bounding-set=-all")


def python_for_others() -> tuple[str, list[str]]:
    """An interpreter that any user may run, of our version, and the folders it shall import from."""
    python = shutil.which("python3", path="/usr/bin")
    version = "import sys; print(*sys.version_info[:2])"
    if not python or subprocess.check_output([python, "-c", version], text=True).split() != [
        str(n) for n in sys.version_info[:2]
    ]:
        pytest.skip("no Python that another user may run")
    inside = [p for p in sys.path if p.endswith("site-packages")]
    return python, [str(ROOT / "src"), *inside]


class Home:
    """The home of somebody who may do nothing; what runs with it ends with the test."""

    def __init__(self, folder: Path, guest_image: Path) -> None:
        python, paths = python_for_others()
        self.folder = folder
        self.environment = {
            "PATH": "/usr/bin:/bin", "HOME": str(folder), "XDG_RUNTIME_DIR": str(folder / "run"),
            "PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1",
        }  # fmt: skip
        self.command = (*PLAIN, python, "-sP", "-m", "kilonova")
        data = folder / ".local" / "share" / "kilonova"
        (data / "guest-image").mkdir(parents=True)
        (folder / "run").mkdir(mode=0o700)
        for path in guest_image.glob("guest*"):
            shutil.copy(path, data / "guest-image" / path.name)
        manifest = data / "guest-image" / "guest.json"
        manifest.write_text(manifest.read_text().replace(str(guest_image), str(data / "guest-image")))
        for path in (folder, *folder.rglob("*")):
            os.chown(path, NOBODY, NOBODY)
        self.data = data

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words, env=self.environment, capture_output=True, text=True, check=False, timeout=100,
            stdin=subprocess.DEVNULL, cwd="/",
        )  # fmt: skip

    def kilonova(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.run(*self.command, *words)

    def processes(self) -> list[tuple[int, str]]:
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if f"HOME={self.folder}".encode() in (process / "environ").read_bytes().split(b"\0"):
                    found.append((int(process.name), (process / "cmdline").read_text().replace("\0", " ")))
        return found


@pytest.fixture
def home(guest_image: Path) -> Iterator[Home]:
    with place() as folder:
        made = Home(folder, guest_image)
        try:
            yield made
        finally:
            for pid, _ in made.processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


async def test_a_plain_users_cloud(home: Home) -> None:
    cloud = CloudProcess(home.data, driver="libvirt")
    at_home = [word for word in cloud.words if word not in ("--dir", str(home.data))]
    cloud.words, cloud.command, cloud.environment = at_home, home.command, home.environment
    try:
        cloud.start(120)
        facts = home.kilonova("status").stdout
        assert str(home.data) in facts and "running" in facts
        async with account(cloud) as demo:
            await one_guest(home, demo)
            assert cloud.stop() < 5
            assert any("qemu-system" in words for _, words in home.processes())
            done = home.kilonova("down", "--purge")
            assert done.returncode == 0, done.stderr
            assert not home.data.exists()
            assert not any("qemu-system" in words for _, words in home.processes())
    finally:
        cloud.kill()


async def one_guest(home: Home, demo: Account) -> None:
    uuid = (await demo.create("mine", flavor="2")).json()["server"]["id"]
    await demo.until(uuid, "ACTIVE", seconds=90)
    await said(demo, uuid, "mine login:")
    listed = home.run(*PLAIN, "virsh", "-q", "-c", "qemu:///session", "list", "--all", "--uuid")
    assert listed.stdout.split() == [uuid], listed.stderr
    assert "mine login:" in home.kilonova("console", "mine").stdout
    await demo.act(uuid, os_stop=None)
    await demo.until(uuid, "SHUTOFF", seconds=90)
    await demo.act(uuid, os_start=None)
    await demo.until(uuid, "ACTIVE")


def test_system_wide_things_are_not_a_plain_users(home: Home) -> None:
    done = home.kilonova("up", "--driver", "sim", "--dir", "/var/lib/kilonova-none", "--port", str(free_port()))
    assert done.returncode == 1 and "cannot be used" in done.stderr and "Traceback" not in done.stderr
