"""A real guest whose image comes from a real Glance, with a real Keystone's accounts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from kilonova_cloud import Up, account, openstack
from real_services import Glance, Keystone, until

from kilonova.guestimage import build

pytestmark = [
    pytest.mark.libvirt,
    pytest.mark.timeout(400),
    pytest.mark.skipif(os.geteuid() != 0 or shutil.which("virsh") is None, reason="needs root and libvirt"),
]


@pytest.fixture(scope="module")
def guest_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the project's guest image; KILONOVA_TEST_GUEST_CACHE keeps it from run to run."""
    kept = os.environ.get("KILONOVA_TEST_GUEST_CACHE")
    cache = Path(kept) if kept else tmp_path_factory.mktemp("guest-cache")
    build(cache / "guest.qcow2", cache=cache, progress=lambda _what, _part: None)
    return cache


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory that QEMU's user may enter; what the cloud made is purged."""
    made = Path(tempfile.mkdtemp(prefix="kn-neighbours-"))
    made.chmod(0o711)
    try:
        yield made / "cloud"
    finally:
        purge = [sys.executable, "-m", "kilonova", "down", "--purge", "--dir", str(made / "cloud")]
        done = subprocess.run(purge, capture_output=True, text=True, check=False, timeout=90)
        shutil.rmtree(made, ignore_errors=True)
        assert done.returncode == 0, done.stderr


def test_it_boots(keystone: Keystone, glance: Glance, guest_image: Path, folder: Path) -> None:
    keystone_url, word = keystone.url, keystone.password
    who = (
        f"auth_url = {keystone_url}\nusername = nova\npassword = {word}\nuser_domain_id = default\n"
        "project_name = service\nproject_domain_id = default\n"
    )
    settings = f"[keystone_authtoken]\n{who}interface = public\n[service_user]\n{who}[glance]\n{who}"
    folder.mkdir(mode=0o711)
    (folder / "guest-image").symlink_to(guest_image)
    cloud = Up(folder, settings, "--driver", "libvirt")
    for kind, path in (("compute", "/compute/v2.1"), ("network", "/network")):
        keystone.endpoint(kind, kind, cloud.url + path)
    me = account(keystone_url, "demo", word, "demo")
    file = guest_image / "guest.qcow2"
    made = openstack(f"image create --disk-format qcow2 --container-format bare --file {file} -f json guest", me)
    cloud.start(120)
    try:
        create = f"server create --flavor m1.micro --image {made['id']} --network private --wait -f json first"
        assert openstack(create, me)["status"] == "ACTIVE", cloud.log()[-3000:]
        said = "console log show first"
        until(lambda: "login:" in openstack(said, me), 90, "the log-in prompt")
        # Glance may go: the guest does not notice, and the image is on the host now.
        glance.stop()
        try:
            openstack("server reboot --hard --wait first", me)
        finally:
            glance.start()
        openstack("server delete --wait first", me)
    finally:
        cloud.stop()
