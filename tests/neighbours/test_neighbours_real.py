"""kilonova beside a real Keystone and a real Glance: what a user sees, and what happens when one of them goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from kilonova_cloud import Up, account, openstack
from real_services import Glance, Keystone, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

NOVA = """
[keystone_authtoken]
www_authenticate_uri = {keystone}
auth_url = {keystone}
auth_type = password
username = nova
password = {password}
user_domain_name = Default
project_name = service
project_domain_name = Default
interface = public
[service_user]
auth_url = {keystone}
username = nova
password = {password}
user_domain_name = Default
project_name = service
project_domain_name = Default
[glance]
{glance}
"""
MIB = 1 << 20


@pytest.fixture(scope="module")
def cloud(keystone: Keystone, glance: Glance, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """A cloud that finds Glance in Keystone's catalog, as most nova.conf files have it."""
    where = f"auth_url = {keystone.url}\nusername = nova\npassword = {keystone.password}\nproject_name = service\n"
    settings = NOVA.format(keystone=keystone.url, password=keystone.password, glance=where)
    found = Up(tmp_path_factory.mktemp("cloud"), settings)
    for kind, name, path in (
        ("compute", "nova", "/compute/v2.1"), ("network", "neutron", "/network"),
        ("placement", "placement", "/placement"),
    ):  # fmt: skip
        keystone.endpoint(kind, name, found.url + path)
    try:
        found.start()
        yield found
    finally:
        found.stop()


@pytest.fixture(scope="module")
def image(keystone: Keystone, glance: Glance, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An image that demo has uploaded to Glance."""
    file = tmp_path_factory.mktemp("image") / "disk.raw"
    file.write_bytes(b"kilonova" * (MIB // 8))
    me = account(keystone.url, "demo", keystone.password, "demo")
    made = openstack(f"image create --disk-format raw --container-format bare --file {file} -f json disk", me)
    assert made["status"] == "active", made
    return str(made["id"])


@pytest.fixture
def token(keystone: Keystone) -> str:
    return keystone.token("demo", "demo")


def test_a_users_walk(cloud: Up, keystone: Keystone, image: str) -> None:
    me = account(keystone.url, "demo", keystone.password, "demo")
    assert openstack("token issue -f json", me)["project_id"] == keystone.projects["demo"]
    made = openstack(f"server create --flavor m1.nano --image {image} --network private --wait -f json walker", me)
    assert made["status"] == "ACTIVE" and made["addresses"]
    shown = openstack("server show -f json walker", me)
    assert "disk" in str(shown["image"])
    assert [each["Name"] for each in openstack("server list -f json", me)] == ["walker"]
    openstack("server delete --wait walker", me)
    assert openstack("server list -f json", me) == []


def test_accounts_and_images_are_elsewhere(cloud: Up, keystone: Keystone, token: str) -> None:
    assert not (cloud.folder / "clouds.yaml").exists()
    for path in ("/identity", "/identity/v3/auth/tokens", "/image/v2/images"):
        got = cloud.ask("GET", path, token)
        assert got.status_code == 501
    assert keystone.url in cloud.ask("POST", "/identity/v3/auth/tokens", token, {}).text
    listed = httpx2.get(cloud.url, headers={"accept": "application/json"}).json()["services"]
    assert {"identity", "image"}.isdisjoint(each["type"] for each in listed)
    got = httpx2.get(f"{cloud.url}/compute/v2.1/servers")
    assert got.status_code == 401 and got.headers["www-authenticate"] == f'Keystone uri="{keystone.url}"'
    assert cloud.ask("GET", "/compute/v2.1/servers", "made-up").status_code == 401


def test_images_of_others_are_not_there(cloud: Up, keystone: Keystone, image: str) -> None:
    keystone.user("stranger", "strange", "member")
    stranger = keystone.token("stranger", "strange")
    got = cloud.create(stranger, "thief", image, cloud.network(stranger))
    assert got.status_code == 400 and "image" in got.text


def test_a_disabled_user_is_out_within_the_bound(cloud: Up, keystone: Keystone) -> None:
    keystone.user("quitter", "demo", "member")
    mine = keystone.token("quitter", "demo")
    assert cloud.ask("GET", "/compute/v2.1/servers", mine).status_code == 200
    keystone.ask("PATCH", f"/users/{keystone.users['quitter']}", {"user": {"enabled": False}})
    disabled = time.monotonic()
    until(lambda: cloud.ask("GET", "/compute/v2.1/servers", mine).status_code == 401, 5, "the 401")
    assert time.monotonic() - disabled < 3  # 1 s is kept; the rest is a slow Keystone


def test_glance_goes_and_comes_back(cloud: Up, glance: Glance, image: str, token: str) -> None:
    network = cloud.network(token)
    before = cloud.create(token, "before", image, network).json()["server"]["id"]
    cloud.settles(token, before, "ACTIVE")
    glance.stop()
    try:
        got = cloud.create(token, "during", image, network)
        assert got.status_code == 503 and int(got.headers["retry-after"]) > 0, got.text
        assert cloud.status(token, before) == "ACTIVE"
        for action, wanted in (("os-stop", "SHUTOFF"), ("os-start", "ACTIVE")):
            assert cloud.ask("POST", f"/compute/v2.1/servers/{before}/action", token, {action: None}).status_code == 202
            cloud.settles(token, before, wanted)
    finally:
        glance.start()
    got = cloud.create(token, "after", image, network)
    assert got.status_code == 202, got.text
    after = got.json()["server"]["id"]
    cloud.settles(token, after, "ACTIVE")
    for each in (before, after):
        assert cloud.ask("DELETE", f"/compute/v2.1/servers/{each}", token).status_code == 204
        cloud.settles(token, each, "GONE")


def test_keystone_goes_and_comes_back(cloud: Up, keystone: Keystone, token: str) -> None:
    other = keystone.token("demo", "demo")
    assert cloud.ask("GET", "/compute/v2.1/servers", token).status_code == 200
    keystone.stop()
    try:
        got = cloud.ask("GET", "/compute/v2.1/servers", other)
        assert got.status_code == 503 and int(got.headers["retry-after"]) > 0
        until(lambda: cloud.ask("GET", "/compute/v2.1/servers", token).status_code == 503, 3, "the end of the bound")
        assert httpx2.get(f"{cloud.url}/healthcheck").status_code == 200
    finally:
        keystone.start()
    until(lambda: cloud.ask("GET", "/compute/v2.1/servers", token).status_code == 200, 10, "Keystone's return")


def test_what_is_away_at_the_start_is_said_and_waited_for(
    keystone: Keystone, glance: Glance, image: str, token: str, tmp_path: Path
) -> None:
    settings = NOVA.format(
        keystone=keystone.url, password=keystone.password, glance=f"endpoint_override = {glance.url}/v2"
    )
    cloud = Up(tmp_path, settings)
    keystone.stop()
    glance.stop()
    try:
        cloud.start()
        log = cloud.log()
        assert log.count("Keystone cannot be used") == 1 and log.count("Glance cannot be used") == 1, log
        assert cloud.ask("GET", "/compute/v2.1/servers", token).status_code == 503
        keystone.start()
        glance.start()
        until(lambda: cloud.ask("GET", "/compute/v2.1/servers", token).status_code == 200, 15, "Keystone")
        made = cloud.create(token, "late", image, cloud.network(token))
        assert made.status_code == 202, made.text
        cloud.settles(token, made.json()["server"]["id"], "ACTIVE")
        assert cloud.ask("DELETE", f"/compute/v2.1/servers/{made.json()['server']['id']}", token).status_code == 204
        until(lambda: "Keystone answers" in cloud.log() and "Glance answers" in cloud.log(), 20, "the lines")
    finally:
        cloud.stop()
        for each in (keystone, glance):
            if not each.child.alive:
                each.start()


def test_an_account_that_may_not_ask_is_named(keystone: Keystone, glance: Glance, token: str, tmp_path: Path) -> None:
    settings = NOVA.format(keystone=keystone.url, password=keystone.password, glance=f"api_servers = {glance.url}")
    settings = settings.replace("username = nova", "username = demo").replace("= service", "= demo")
    cloud = Up(tmp_path, settings)
    try:
        cloud.start()
        assert cloud.ask("GET", "/compute/v2.1/servers", keystone.token()).status_code == 503
        until(lambda: "needs the role admin or service" in cloud.log(), 10, "the line")
    finally:
        cloud.stop()
