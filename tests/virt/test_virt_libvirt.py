"""What only the libvirt driver has: a real kernel's view, a daemon that can die, other people's domains."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from virt_images import CONFIG_DRIVE, make_spec
from virt_worlds import HOST, LibvirtHost, place

from kilonova.compute.imagecache import CachedImage
from kilonova.compute.virt import registry
from kilonova.compute.virt.driver import Driver, Refused
from kilonova.compute.virt.libvirt import daemon
from kilonova.guestimage import build
from kilonova.model.guest import GuestSpec
from kilonova.model.power import PowerState

pytestmark = [
    pytest.mark.libvirt,
    pytest.mark.skipif(shutil.which("virsh") is None or os.geteuid() != 0, reason="needs libvirt and root"),
]
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJrq8Y0K0s6g6oHyO8e0w9yQJ4bU6v4bWj1sN2b0e8aB me@example"


def quiet(_percent: int, _detail: str) -> None:
    pass


@pytest.fixture
def host() -> Iterator[LibvirtHost]:
    with place() as directory:
        try:
            yield LibvirtHost(directory)
        finally:
            registry.purge(directory)


@pytest.fixture
async def driver(host: LibvirtHost) -> AsyncIterator[Driver]:
    made = host.driver()
    await made.start(lambda _uuid: None)
    yield made
    await made.stop()


def read(path: str) -> str:
    return Path(path).read_text()


def qemu_pid(spec: GuestSpec) -> str:
    return read(f"/run/libvirt/qemu/{spec.instance_name}.pid").strip()


def has_daemon() -> bool:
    """Whether the machine has one that is not ours to kill."""
    return Path("/run/systemd/system").exists() or daemon.answers(daemon.SYSTEM)


async def said(driver: Driver, uuid: str, text: str, times: int = 1) -> bytes:
    async with asyncio.timeout(60):
        while (log := await driver.console_log(uuid, 1 << 20)).count(text.encode()) < times:  # noqa: ASYNC110 - a file
            await asyncio.sleep(0.1)
    return log


@pytest.mark.slow
async def test_a_real_guest_hears_its_power_button(
    host: LibvirtHost, driver: Driver, tmp_path_factory: pytest.TempPathFactory
) -> None:
    cache = Path(os.environ.get("KILONOVA_TEST_GUEST_CACHE") or tmp_path_factory.mktemp("guest-cache"))
    disk = host.directory / "images" / "guest.qcow2"
    built = await asyncio.to_thread(build, disk, cache=cache, progress=lambda _what, _part: None)
    image = CachedImage(path=disk, format="qcow2", virtual_size=built.virtual_size)
    meta = {"uuid": "u", "hostname": "web-1", "name": "web-1", "public_keys": {"k": KEY}}
    drive = {"openstack/latest/meta_data.json": json.dumps(meta).encode()}
    spec = make_spec(memory_mb=128)

    await driver.ensure_guest(spec, image, drive, quiet)
    log = await said(driver, spec.uuid, "web-1 login:")
    assert KEY.encode() in log and b"hostname=web-1 (config drive)" in log
    assert (await driver.reboot(spec, "SOFT", 30)).power_state == PowerState.RUNNING
    log = await said(driver, spec.uuid, "login:", times=2)
    assert log.count(b"Power down") == 1
    began = time.monotonic()
    assert (await driver.power_off(spec.uuid, 30)).power_state == PowerState.SHUTDOWN
    assert time.monotonic() - began < 25
    assert (await driver.console_log(spec.uuid, 1 << 20)).count(b"Power down") == 2


async def test_a_killed_daemon_is_replaced_and_guests_live_on(host: LibvirtHost) -> None:
    if has_daemon():
        pytest.skip("the machine has a libvirt daemon that is not ours to kill")
    hints: asyncio.Queue[str] = asyncio.Queue()
    driver, spec = host.driver(), make_spec()
    await driver.start(hints.put_nowait)
    try:
        await driver.ensure_guest(spec, host.image, CONFIG_DRIVE, quiet)
        qemu = qemu_pid(spec)
        pid = int((host.directory / "libvirt" / "libvirtd.pid").read_text())
        os.kill(pid, signal.SIGKILL)
        while not hints.empty():
            hints.get_nowait()
        assert await asyncio.wait_for(hints.get(), 60) == spec.uuid
        fact = await driver.guest(spec.uuid)
        assert fact and fact.power_state == PowerState.RUNNING
        assert qemu_pid(spec) == qemu
        assert int((host.directory / "libvirt" / "libvirtd.pid").read_text()) != pid
        os.kill(int((host.directory / "libvirt" / "virtlogd.pid").read_text()), signal.SIGKILL)
        second = make_spec()
        assert (await driver.ensure_guest(second, host.image, None, quiet)).power_state == PowerState.RUNNING
        for guest in (spec, second):
            await driver.ensure_absent(guest.uuid)
            assert host.remains(guest.uuid) == []
    finally:
        await driver.stop()


async def test_a_stranger_with_our_uuid_is_left_alone(host: LibvirtHost, driver: Driver) -> None:
    spec = make_spec()
    xml = host.directory / "x.xml"
    xml.write_text(
        f"<domain type='qemu'><name>stranger-{spec.uuid[:8]}</name><uuid>{spec.uuid}</uuid>"
        "<memory unit='MiB'>16</memory><os><type>hvm</type></os></domain>"
    )
    host.virsh("define", str(xml))
    try:
        assert await driver.guest(spec.uuid) is None
        with pytest.raises(Refused):
            await driver.ensure_guest(spec, host.image, None, quiet)
        with pytest.raises(Refused):
            await driver.ensure_absent(spec.uuid)
        assert spec.uuid in host.virsh("list", "--all", "--uuid")
    finally:
        host.virsh("undefine", spec.uuid)


async def test_qemu_runs_without_rights_and_in_its_sandbox(host: LibvirtHost, driver: Driver) -> None:
    spec = make_spec()
    await driver.ensure_guest(spec, host.image, CONFIG_DRIVE, quiet)
    pid = qemu_pid(spec)
    status = read(f"/proc/{pid}/status")
    user = daemon.qemu_user(daemon.SYSTEM)
    assert user and f"\nUid:\t{user.pw_uid}\t" in status and "\nSeccomp:\t2" in status
    assert (host.directory / "instances" / spec.uuid / "disk").stat().st_mode & 0o077 == 0
    dump = host.virsh("dumpxml", spec.uuid)
    assert registry.cloud_id(host.directory) in dump and f'host="{HOST}"' in dump.replace("'", '"')


async def test_a_cancelled_call_is_over_when_it_returns(host: LibvirtHost, driver: Driver) -> None:
    for delay in (0.0, 0.01, 0.03, 0.1):
        spec = make_spec()
        call = asyncio.create_task(driver.ensure_guest(spec, host.image, CONFIG_DRIVE, quiet))
        await asyncio.wait([call], timeout=delay)
        call.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await call
        await driver.ensure_absent(spec.uuid)
        assert host.remains(spec.uuid) == []


async def test_a_plain_user_has_guests_in_a_session() -> None:
    python, paths = python_for_others()
    with place() as home:
        os.chown(home, 65534, 65534)
        environment = {"PATH": "/usr/bin:/bin:/usr/sbin", "HOME": str(home), "XDG_RUNTIME_DIR": str(home)}
        try:
            child = await asyncio.create_subprocess_exec(
                *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all"),
                *(python, str(Path(__file__).with_name("virt_session.py")), str(home)),
                env={**environment, "PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1"},
                stdout=subprocess.PIPE,
            )
            out, _ = await asyncio.wait_for(child.communicate(), 90)
            assert out.decode().split() == ["qemu:///session", "RUNNING", "SHUTDOWN", "[]"]
        finally:
            for pid in of_home(home):
                os.kill(pid, signal.SIGKILL)


def python_for_others() -> tuple[str, list[str]]:
    """An interpreter that any user may run, of our version, and the folders it shall import from."""
    python = shutil.which("python3", path="/usr/bin")
    version = "import sys; print(*sys.version_info[:2])"
    if not python or subprocess.check_output([python, "-c", version]).split() != [
        str(n).encode() for n in sys.version_info[:2]
    ]:
        pytest.skip("no Python that another user may run")
    return python, [p for p in sys.path if p and Path(p).is_dir() and not p.startswith(sys.base_prefix)]


def of_home(home: Path) -> list[int]:
    """Processes whose home that is: the session's daemons."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"HOME={home}".encode() in (process / "environ").read_bytes().split(b"\0"):
                found.append(int(process.name))
    return found
