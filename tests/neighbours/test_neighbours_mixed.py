"""One real service, the other embedded, both ways; and the libraries that clients are made of."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import real_environment
import yaml
from kilonova_cloud import Up, account, openstack
from real_services import Glance, Keystone, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
PASSWORD = "glance-of-our-own"
MIB = 1 << 20


@pytest.fixture
def file(tmp_path: Path) -> Path:
    found = tmp_path / "disk.raw"
    found.write_bytes(os.urandom(3 * MIB))
    return found


@pytest.fixture(scope="module")
def glance_of_ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Up, Glance]]:
    """A cloud with accounts of its own, and a Glance that asks them about tokens."""
    up = tmp_path_factory.mktemp("ours")
    glance = Glance(tmp_path_factory.mktemp("glance"), "", "glance", PASSWORD)
    cloud = Up(up, f"[glance]\nendpoint_override = {glance.url}\n")
    glance.keystone(f"{cloud.url}/identity/v3")
    try:
        cloud.start()
        admin = clouds(cloud, "kilonova-admin")
        openstack(f"user create --password {PASSWORD} --project service glance", admin)
        openstack("role add --user glance --project service service", admin)
        glance.prepare()
        glance.start()
        yield cloud, glance
    finally:
        glance.stop()
        cloud.stop()


def clouds(cloud: Up, name: str) -> dict[str, str]:
    """The variables of a cloud of DIR/clouds.yaml."""
    return {"OS_CLIENT_CONFIG_FILE": str(cloud.folder / "clouds.yaml"), "OS_CLOUD": name}


def test_a_real_glance_with_our_accounts(glance_of_ours: tuple[Up, Glance], file: Path) -> None:
    cloud, glance = glance_of_ours
    me = clouds(cloud, "kilonova")
    entries = {each["Name"]: str(each["Endpoints"]) for each in openstack("catalog list -f json", me)}
    assert glance.url in entries["glance"]
    made = openstack(f"image create --disk-format raw --container-format bare --file {file} -f json disk", me)
    assert made["status"] == "active" and made["size"] == 3 * MIB
    assert list((glance.folder / "images").iterdir())
    shown = openstack("server create --flavor m1.nano --image disk --network private --wait -f json walker", me)
    assert shown["status"] == "ACTIVE"
    openstack("server delete --wait walker", me)
    saved = file.with_suffix(".back")
    openstack(f"image save --file {saved} disk", me)
    assert saved.read_bytes() == file.read_bytes()
    assert "publicize" in openstack("image create --public --disk-format raw --container-format bare x", me, code=1)
    openstack("image delete disk", me)


def test_glance_sees_our_revocations(glance_of_ours: tuple[Up, Glance]) -> None:
    cloud, _ = glance_of_ours
    admin = clouds(cloud, "kilonova-admin")
    openstack("user create --password leaving --project demo leaver", admin)
    openstack("role add --user leaver --project demo member", admin)
    url = f"{cloud.url}/identity/v3"
    openstack("image list", account(url, "leaver", "leaving", "demo"))
    openstack("user set --disable leaver", admin)
    assert "401" in openstack("image list", account(url, "leaver", "leaving", "demo"), code=1)


def test_our_images_with_a_real_keystone(keystone: Keystone, file: Path, tmp_path: Path) -> None:
    """The guest image belongs to the service account's project and is everybody's."""
    word = keystone.password
    settings = (
        f"[keystone_authtoken]\nauth_url = {keystone.url}\nusername = nova\npassword = {word}\n"
        "user_domain_id = default\nproject_name = service\nproject_domain_id = default\ninterface = public\n"
    )
    cloud = Up(tmp_path, settings)
    for kind, path in (
        ("compute", "/compute/v2.1"), ("image", "/image"), ("network", "/network"), ("placement", "/placement")
    ):  # fmt: skip
        keystone.endpoint(kind, kind, cloud.url + path)
    try:
        cloud.start()
        me = account(keystone.url, "demo", word, "demo")
        until(lambda: openstack("image list -f json", me), 20, "the guest image")
        made = openstack(f"image create --disk-format raw --container-format bare --file {file} -f json disk", me)
        assert made["status"] == "active" and made["owner"] == keystone.projects["demo"]
        for name, image in (("one", "disk"), ("two", "kilonova-guest")):
            create = f"server create --flavor m1.nano --image {image} --network private --wait -f json {name}"
            assert openstack(create, me)["status"] == "ACTIVE"
            openstack(f"server delete --wait {name}", me)
        guest = openstack("image show -f json kilonova-guest", me)
        assert guest["owner"] == keystone.projects["service"] and guest["visibility"] == "public"
        admin = keystone.token()
        assert cloud.ask("GET", "/placement/resource_providers", admin).status_code == 200
        assert cloud.ask("GET", "/placement/resource_providers", keystone.token("demo", "demo")).status_code == 403
    finally:
        cloud.stop()


def test_the_clients_libraries(tmp_path: Path) -> None:
    cloud = Up(tmp_path, "")
    try:
        cloud.start()
        assert set(yaml.safe_load((tmp_path / "clouds.yaml").read_text())["clouds"]) >= {"kilonova", "kilonova-admin"}
        kept = {name: value for name, value in os.environ.items() if not name.startswith("OS_")}
        done = subprocess.run(
            [real_environment.client(), Path(__file__).with_name("sdk_walk.py")],
            env={**kept, **clouds(cloud, "kilonova")}, capture_output=True, text=True, check=False, timeout=100,
        )  # fmt: skip
        assert done.stdout.endswith("walked\n"), done.stdout + done.stderr[-3000:]
    finally:
        cloud.stop()
