"""The empty volume API."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from image.image_cloud import DEMO, OTHER, Tokens
from kilonova.http.app import HttpApp
from kilonova.volume.face import VolumeFace

Call = Callable[..., Awaitable[httpx2.Response]]


@pytest_asyncio.fixture
async def call() -> AsyncIterator[Call]:
    face = VolumeFace(Tokens())
    app = HttpApp({"": face, "/volume": face})
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://cloud.test") as http:

        async def ask(method: str, path: str, who: str | None = "member", **more: Any) -> httpx2.Response:
            headers = {"x-auth-token": who} if who else {}
            return await http.request(method, f"/volume{path}", headers=headers, **more)

        yield ask


async def test_versions(call: Call) -> None:
    root = await call("GET", "/", None)
    assert root.status_code == 300
    version = (await call("GET", "/v3/", None)).json()["versions"][0]
    assert version["id"] == "v3.0" and version["links"][0]["href"] == "http://cloud.test/volume/v3/"


@pytest.mark.parametrize("prefix", ["", f"/{DEMO}"])
@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("volumes", "volumes"), ("volumes/detail", "volumes"), ("snapshots", "snapshots"),
        ("snapshots/detail?all_tenants=1", "snapshots"), ("os-services", "services"), ("backups/detail", "backups"),
    ],
)  # fmt: skip
async def test_empty_lists(call: Call, prefix: str, path: str, key: str) -> None:
    answer = await call("GET", f"/v3{prefix}/{path}")
    assert answer.status_code == 200 and answer.json() == {key: []}


async def test_what_clients_ask(call: Call) -> None:
    (kind,) = (await call("GET", "/v3/types")).json()["volume_types"]
    assert (await call("GET", f"/v3/types/{kind['id']}")).json()["volume_type"] == kind
    assert (await call("GET", "/v3/types/default")).status_code == 200
    assert (await call("GET", "/v3/types/other")).status_code == 404
    assert (await call("GET", "/v3/limits")).json()["limits"]["absolute"]["maxTotalVolumes"] == 0
    zones = (await call("GET", f"/v3/{DEMO}/os-availability-zone")).json()["availabilityZoneInfo"]
    assert zones[0]["zoneName"] == "nova"
    quota = (await call("GET", f"/v3/{DEMO}/os-quota-sets/{DEMO}?usage=True")).json()["quota_set"]
    assert quota["id"] == DEMO and quota["volumes"] == {"limit": 0, "in_use": 0, "reserved": 0}


async def test_what_is_not_there(call: Call) -> None:
    refused = await call("POST", f"/v3/{DEMO}/volumes", json={"volume": {"size": 1}})
    assert refused.status_code == 501 and "Cinder" in refused.json()["notImplemented"]["message"]
    assert (await call("GET", "/v3/volumes/nothing")).status_code == 404
    assert (await call("GET", f"/v3/{OTHER}/volumes")).status_code in (403, 404, 501)
    assert (await call("GET", "/v3/volumes", None)).status_code == 401
    assert (await call("GET", "/v1/volumes")).status_code == 404
