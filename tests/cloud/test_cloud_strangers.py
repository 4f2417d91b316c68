"""Whatever a stranger sends is answered by 4xx: never by 500, never with other people's things."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
from cloud_api import Account, account, login_body
from cloud_process import CloudProcess

SERVERS = "/compute/v2.1/servers"
WRITES = (
    ("POST", SERVERS), ("POST", "/compute/v2.1/os-keypairs"), ("POST", "/compute/v2.1/flavors"),
    ("POST", "/identity/v3/auth/tokens"), ("POST", "/identity/v3/projects"), ("POST", "/image/v2/images"),
    ("POST", "/network/v2.0/networks"), ("POST", "/network/v2.0/ports"), ("POST", "/placement/resource_providers"),
    ("PUT", "/placement/allocations/6a1c8cd0-4a2b-4b0b-9f35-0f4e1f0fd2aa"), ("PUT", "/compute/v2.1/os-services/x"),
)  # fmt: skip
WRONG = (
    b"", b"{", b"null", b"[]", b'"text"', b"3", b"\xff\xfe", b'{"server": null}', b'{"server": []}', b'{"auth": 3}',
    b'{"server": {"name": 3, "flavorRef": {}, "imageRef": [], "networks": "x"}}', b'{"network": {"name": {}}}',
    b'{"server": {"name": "\\u0000", "flavorRef": "1"}}', b'{"keypair": {"name": [[]]}}',
    b'{"port": {"mac_address": 7}}',
    b'{"auth": {"identity": {"methods": ["password"], "password": {"user": {"name": [], "password": {}}}}}}',
    b'{"auth": {"identity": {"methods": ["token"], "token": {"id": 3}}}}', b'{"name": 1e400}', b'{"a": 1, "a": 2}',
    b"[" * 100_000, b'{"server":' * 50_000, b'{"x": "' + b"y" * 3_000_000 + b'"}', b'{"n": ' + b"9" * 10_000 + b"}",
)  # fmt: skip


@pytest.fixture
async def admin(cloud: CloudProcess) -> AsyncIterator[Account]:
    async with account(cloud, "kilonova-admin") as made:
        yield made


def fine(answer: httpx2.Response, *codes: int) -> None:
    assert 400 <= answer.status_code < 500, f"{answer.request.method} {answer.request.url}: {answer.status_code}"
    assert not codes or answer.status_code in codes, answer.text[:300]
    assert answer.headers["x-openstack-request-id"].startswith("req-")


async def test_wrong_passwords(cloud: CloudProcess) -> None:
    async with httpx2.AsyncClient(base_url=cloud.url, timeout=60) as http:
        body = login_body(cloud.account("kilonova"), password="guess")
        answers = await asyncio.gather(*(http.post("/identity/v3/auth/tokens", json=body) for _ in range(8)))
        for answer in answers:
            fine(answer, 401, 429)
        assert len({a.text for a in answers if a.status_code == 401}) <= 1
        body["auth"]["identity"]["password"]["user"]["name"] = "nobody"
        fine(await http.post("/identity/v3/auth/tokens", json=body), 401, 429)


@pytest.mark.parametrize("token", ["", "x", "gAAAA", "gAAAAAB" + "A" * 250, "\xe4", "a" * 7000])
async def test_tokens_that_are_none(cloud: CloudProcess, token: str) -> None:
    async with httpx2.AsyncClient(base_url=cloud.url, headers={"x-auth-token": token.encode("latin-1")}) as http:
        for path in (SERVERS, "/image/v2/images", "/network/v2.0/networks", "/placement/resource_providers",
                     "/volume/v3/volumes", "/compute/v2.1/kilonova/events", "/identity/v3/projects"):  # fmt: skip
            fine(await http.get(path), 401, 400, 404)


async def test_a_revoked_token_ends_everything_that_it_opened(cloud: CloudProcess) -> None:
    async with account(cloud) as demo:
        token = demo.http.headers["x-auth-token"]

        async def listen() -> str:
            async with demo.http.stream("GET", "/compute/v2.1/kilonova/events") as answer:
                begun.set()
                return "".join([line async for line in answer.aiter_lines()])

        begun = asyncio.Event()
        stream = asyncio.create_task(listen())
        await asyncio.wait_for(begun.wait(), 10)
        answer = await demo.http.delete("/identity/v3/auth/tokens", headers={"x-subject-token": token})
        assert answer.status_code == 204
        async with asyncio.timeout(5):
            while (await demo.http.get(SERVERS)).status_code != 401:  # noqa: ASYNC110 - another process decides
                await asyncio.sleep(0.05)
        assert '"reason":"token"' in await asyncio.wait_for(stream, 5)


async def test_other_tenants_things_are_not_there(cloud: CloudProcess, demo: Account, admin: Account) -> None:
    made = await admin.create("not yours", flavor="1")
    uuid = made.json()["server"]["id"]
    await admin.until(uuid, "ACTIVE")
    ports = (await admin.get("/network/v2.0/ports", params={"device_id": uuid}))["ports"]
    try:
        for path in ("", "/metadata", "/os-instance-actions", "/diagnostics", "/tags", "/ips"):
            fine(await demo.http.get(f"{SERVERS}/{uuid}{path}"), 404, 403)
        actions = ({"os-stop": None}, {"reboot": {"type": "HARD"}}, {"os-getConsoleOutput": {}}, {"os-resetState": {}})
        for body in actions:
            fine(await demo.http.post(f"{SERVERS}/{uuid}/action", json=body), 404, 403, 400)
        fine(await demo.http.delete(f"{SERVERS}/{uuid}"), 404)
        fine(await demo.http.put(f"{SERVERS}/{uuid}", json={"server": {"name": "mine"}}), 404)
        fine(await demo.http.get(f"/network/v2.0/ports/{ports[0]['id']}"), 404)
        fine(await demo.http.delete(f"/network/v2.0/ports/{ports[0]['id']}"), 404)
        fine(await demo.http.get(f"{SERVERS}?all_tenants=1"), 403)
        fine(await demo.http.get("/compute/v2.1/kilonova/events?all_projects=1"), 403)
        fine(await demo.http.get("/compute/v2.1/os-hypervisors"), 403)
        fine(await demo.http.get("/placement/resource_providers"), 403)
        assert all(s["id"] != uuid for s in await demo.servers())
        assert (await admin.server(uuid) or {})["status"] == "ACTIVE"
    finally:
        await admin.http.delete(f"{SERVERS}/{uuid}")
        await admin.until(uuid, "DELETED")


async def test_a_system_token_is_not_for_servers(cloud: CloudProcess) -> None:
    async with account(cloud, "kilonova-system") as system:
        fine(await system.http.get(SERVERS), 403)


async def test_bodies_of_the_wrong_kind(demo: Account, admin: Account) -> None:
    for who in (demo, admin):
        for method, path in WRITES:
            for body in WRONG:
                headers = {"content-type": "application/json"}
                fine(await who.http.request(method, path, content=body, headers=headers))


async def test_other_content_types(demo: Account) -> None:
    for kind in ("text/plain", "application/xml", "", "application/json; charset=utf-16"):
        answer = await demo.http.post(SERVERS, content=b"<server/>", headers={"content-type": kind})
        fine(answer)


async def test_a_body_of_a_hundred_megabytes(cloud: CloudProcess, demo: Account) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield bytes(1 << 20)

    for path in (SERVERS, "/identity/v3/auth/tokens", "/network/v2.0/networks"):
        try:
            answer = await demo.http.post(path, content=endless(), headers={"content-type": "application/json"})
        except (httpx2.WriteError, httpx2.RemoteProtocolError, httpx2.ReadError):
            continue  # told off and cut off before all was sent
        fine(answer, 413, 400)
    token = demo.http.headers["x-auth-token"]
    reader, writer = await asyncio.open_connection("127.0.0.1", cloud.port)
    writer.write(
        f"POST {SERVERS} HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Auth-Token: {token}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {100 << 20}\r\n\r\n{{".encode()
    )
    assert (await asyncio.wait_for(reader.readline(), 10)).split()[1] == b"413"
    writer.close()
    assert cloud.child is not None
    status = await asyncio.to_thread(Path(f"/proc/{cloud.child.pid}/status").read_text)
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    assert peak < 300 * 1024, f"{peak >> 10} MiB for bodies that are refused"
    assert await demo.servers() == []


async def test_strange_paths_and_queries(demo: Account) -> None:
    paths = (
        "/nothing", "/compute", "/compute/v9", "/compute/v2.1/../../etc/passwd", f"{SERVERS}/..%2f..%2fetc",
        f"{SERVERS}/%00", f"{SERVERS}/{'a' * 5000}", f"{SERVERS}?limit=-1", f"{SERVERS}?marker=x", f"{SERVERS}?limit=x",
        f"{SERVERS}?sort_key=none", f"{SERVERS}/detail?changes-since=yesterday", "/image/v2/images?limit=x",
        "/image/v2/images/x/file", "/network/v2.0/ports/x", "/network/v2.0/networks?limit=x",
        "/identity/v3/users/x", "/placement/resource_providers/x", "/volume/v3/volumes/x", "/%ff%fe",
    )  # fmt: skip
    for path in paths:
        answer = await demo.http.get(path)
        assert answer.status_code < 500, f"{path}: {answer.status_code} {answer.text[:200]}"
        for method in ("PUT", "DELETE", "PATCH", "POST"):
            answer = await demo.http.request(method, path, json={})
            # The embedded volume service says that it has no volumes.
            good = answer.status_code < 500 or (answer.status_code == 501 and path.startswith("/volume"))
            assert good, f"{method} {path}: {answer.status_code} {answer.text[:200]}"


async def test_strange_headers(demo: Account) -> None:
    for name, value in (
        ("openstack-api-version", "compute 2.999"), ("openstack-api-version", "compute x"),
        ("x-openstack-nova-api-version", "9"), ("host", "evil.example"), ("idempotency-key", "k" * 4000),
        ("last-event-id", "\xff" * 50), ("accept", "image/png"), ("expect", "a miracle"),
    ):  # fmt: skip
        answer = await demo.http.get(SERVERS, headers={name: value.encode("latin-1")})
        assert answer.status_code < 500, f"{name}: {value!r}: {answer.status_code}"
    fine(await demo.http.get(SERVERS, headers={"host": "evil.example"}), 400)
    fine(await demo.http.get(SERVERS, headers={"openstack-api-version": "compute 2.999"}), 406)


async def test_nothing_of_this_was_a_bug(cloud: CloudProcess, demo: Account) -> None:
    """Last in the file: what every test above left in the log."""
    bugs = [line for line in cloud.log().splitlines() if " ERROR " in line or "Traceback" in line]
    assert not bugs, bugs[:5]
    assert json.loads((await demo.http.get("/", headers={"accept": "application/json"})).text)["services"]
