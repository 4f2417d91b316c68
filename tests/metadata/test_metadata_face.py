"""The metadata service over HTTP, with one server in it."""

from __future__ import annotations

import hmac
from typing import Any

import httpx2
import pytest

from kilonova.http.app import HttpApp
from kilonova.metadata.face import MetadataFace
from kilonova.model.server import Server

UUID = "0d8a6c1e-9a4c-4f4b-8f2e-3f3f2b6a7c11"
SECRET = "between the proxy and us"


def server(**more: Any) -> Server:
    facts = {
        "uuid": UUID, "project_id": "p1", "user_id": "u1", "name": "web", "hostname": "web", "flavor_id": "1",
        "flavor": '{"name": "m1.nano"}', "vcpus": 1, "memory_mb": 64, "root_gb": 1, "created_at": 1, "updated_at": 1,
        "operation_id": None, "key_name": "mine", "key_data": "ssh-ed25519 AAAA", "user_data": "IyEvYmluL3NoCg==",
        "metadata": '{"role": "web"}', "number": 7,
        "addresses": '[{"port_id": "a", "network_id": "n", "label": "private", "mac": "fa:16:3e:00:00:01",'
        ' "ips": [["10.11.0.9", 4]], "mtu": 1500}]',
    }  # fmt: skip
    return Server(**{**facts, **more})


def guest(face: MetadataFace, address: str = "10.11.0.9") -> httpx2.AsyncClient:
    transport = httpx2.ASGITransport(app=HttpApp({"": face}), client=(address, 4242))
    return httpx2.AsyncClient(transport=transport, base_url="http://169.254.169.254")


async def by_id(uuid: str) -> Server | None:
    return server() if uuid == UUID else None


async def by_address(address: str) -> Server | None:
    return server() if address == "10.11.0.9" else None


def signed(instance: str = UUID, tenant: str = "p1", secret: str = SECRET) -> dict[str, str]:
    signature = hmac.new(secret.encode(), instance.encode(), "sha256").hexdigest()
    return {"X-Instance-ID": instance, "X-Tenant-ID": tenant, "X-Instance-ID-Signature": signature}


async def test_the_openstack_tree_by_source_address() -> None:
    async with guest(MetadataFace(by_id, by_address)) as client:
        assert "latest" in (await client.get("/openstack")).text.split("\n")
        names = (await client.get("/openstack/latest/")).text.split("\n")
        assert set(names) == {
            "meta_data.json", "user_data", "vendor_data.json", "network_data.json", "vendor_data2.json"
        }  # fmt: skip
        assert (await client.get("/openstack/2012-08-10")).text.split("\n") == ["meta_data.json", "user_data"]
        answer = await client.get("/openstack/latest/meta_data.json")
        assert answer.headers["content-type"] == "application/json"
        found = answer.json()
        assert (found["uuid"], found["hostname"], found["meta"]) == (UUID, "web.novalocal", {"role": "web"})
        assert found["public_keys"] == {"mine": "ssh-ed25519 AAAA"}
        assert "admin_pass" not in found
        assert (await client.get("/openstack/latest/user_data")).text == "#!/bin/sh\n"
        network = (await client.get("/openstack/latest/network_data.json")).json()
        assert network["links"][0]["ethernet_mac_address"] == "fa:16:3e:00:00:01"


async def test_the_ec2_tree() -> None:
    async with guest(MetadataFace(by_id, by_address)) as client:
        assert (await client.get("/")).text.endswith("latest")
        assert (await client.get("/latest")).text.split("\n") == ["meta-data/", "user-data"]
        assert "public-keys/" in (await client.get("/latest/meta-data/")).text.split("\n")
        assert (await client.get("/latest/meta-data/instance-id")).text == "i-00000007"
        assert (await client.get("/ec2/2009-04-04/meta-data/local-ipv4")).text == "10.11.0.9"
        assert (await client.get("/latest/meta-data/public-keys/")).text == "0=mine"
        assert (await client.get("/latest/meta-data/public-keys/0/openssh-key")).text == "ssh-ed25519 AAAA"


@pytest.mark.parametrize(
    "path",
    ["/openstack/1999-01-01", "/openstack/latest/nothing", "/openstack/latest/meta_data.json/x", "/latest/nothing",
     "/latest/meta-data/nothing", "/latest/meta-data/public-keys/0/_name", "/nothing", "/openstack/%2e%2e/latest"],
)  # fmt: skip
async def test_what_is_not_there(path: str) -> None:
    async with guest(MetadataFace(by_id, by_address)) as client:
        assert (await client.get(path)).status_code == 404


async def test_a_stranger_sees_nothing() -> None:
    async with guest(MetadataFace(by_id, by_address), "10.11.0.10") as client:
        assert (await client.get("/openstack/latest/meta_data.json")).status_code == 404
        # Without a proxy the id that a guest claims counts for nothing.
        assert (await client.get("/openstack/latest/meta_data.json", headers=signed())).status_code == 404
        assert (await client.post("/openstack/latest/meta_data.json")).status_code == 405


async def test_signed_ids() -> None:
    path = "/openstack/latest/meta_data.json"
    async with guest(MetadataFace(by_id, by_address, secret=SECRET), "192.0.2.1") as client:
        assert (await client.get(path, headers=signed())).json()["uuid"] == UUID
        assert (await client.get(path)).status_code == 400
        assert (await client.get(path, headers=signed(secret="another"))).status_code == 403
        assert (await client.get(path, headers=signed(tenant="p2"))).status_code == 404
        assert (await client.get(path, headers=signed(instance="nobody"))).status_code == 404
        twice = [*signed().items(), ("X-Instance-ID", "other")]
        assert (await client.get(path, headers=twice)).status_code in (400, 403)
