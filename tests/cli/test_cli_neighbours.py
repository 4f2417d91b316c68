"""Which services a configuration makes real, and with whose account they are reached: without any network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2
import pytest

from kilonova.cli.compose.compute import NoImages, remote_images
from kilonova.cli.compose.neighbours import addresses, glance_of_hosts, glance_url, real_glance, real_neutron
from kilonova.cli.compose.who import Sessions, account
from kilonova.cli.errors import CliError
from kilonova.config import load
from kilonova.config.settings import Settings
from kilonova.http.app import HttpApp
from kilonova.http.elsewhere import ElsewhereFace
from kilonova.identity.session import KeystoneSession

ACCOUNT = "auth_url = http://keystone:5000\nusername = nova\npassword = word\nproject_name = service\n"


def read(folder: Path, text: str) -> Settings:
    file = folder / "nova.conf"
    file.write_text(text)
    return load([file], {}, {})


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("[glance]\nendpoint_override = http://glance:9292/v2/\n", "http://glance:9292"),
        ("[glance]\napi_servers = http://a:1,http://b:2\n", "http://a:1"),
        ("[glance]\nendpoint_override = http://all/image/v2.1\n", "http://all/image"),
        ("[glance]\nregion_name = here\n", None),
    ],
)
def test_glance_has_an_address(tmp_path: Path, text: str, url: str | None) -> None:
    settings = read(tmp_path, text)
    assert glance_url(settings) == url
    assert addresses(settings).get("image") == url


def test_nothing_configured_is_all_embedded(tmp_path: Path) -> None:
    settings = read(tmp_path, "")
    sessions = Sessions(settings)
    assert real_glance(settings, sessions, None) is None and real_neutron(settings, sessions, None) is None
    assert glance_of_hosts(settings, sessions) is None and isinstance(remote_images(settings), NoImages)
    assert addresses(settings) == {}


async def test_the_account_is_the_nearest_one_and_logs_in_once(tmp_path: Path) -> None:
    other = ACCOUNT.replace("nova", "glance-reader")
    text = f"[keystone_authtoken]\n{ACCOUNT}[service_user]\n{ACCOUNT}timeout = 3\n[neutron]\n{other}"
    settings = read(tmp_path, text)
    sessions = Sessions(settings)
    found = account(settings, settings.glance)
    assert found is settings.service_user
    tokens, _ = sessions.tokens("glance", settings.glance, None)
    assert tokens is sessions.of(settings.keystone_authtoken)
    neutron = real_neutron(settings, sessions, None)
    assert neutron is not None and callable(neutron.endpoint)
    mine, _ = sessions.tokens("neutron", settings.neutron, None)
    assert isinstance(mine, KeystoneSession) and mine is not tokens
    await sessions.close()


def test_a_real_service_needs_an_account(tmp_path: Path) -> None:
    settings = read(tmp_path, "[neutron]\nendpoint_override = http://neutron:9696\n")
    with pytest.raises(CliError, match=r"\[neutron\] auth_url"):
        real_neutron(settings, Sessions(settings), None)


async def test_elsewhere_says_where() -> None:
    face: Any = ElsewhereFace("Keystone", "http://keystone:5000")
    transport = httpx2.ASGITransport(HttpApp({"/identity": face, "": face}))
    async with httpx2.AsyncClient(transport=transport, base_url="http://cloud.test") as client:
        for method, path in (("GET", "/identity"), ("POST", "/identity/v3/auth/tokens")):
            got = await client.request(method, path)
            assert got.status_code == 501 and "http://keystone:5000" in got.json()["error"]["message"]
