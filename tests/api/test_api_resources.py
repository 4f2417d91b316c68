"""Flavors, key pairs, quotas, hosts, zones: everything that is not a server."""

from __future__ import annotations

import pytest

from api.api_cloud import DEMO, OTHER, TOKENS, Cloud
from kilonova.db.database import Tx
from kilonova.db.statement import Statement

SSH = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAmVxBoa8n8RLKFDg7ZwjZ0pLbvpTBXcqRxBmv3WlUMW me@home"
SERVICE, HOST = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
_SERVICE = Statement(
    """INSERT INTO services VALUES (:uuid, 1, 'host-1', 'nova-compute', 'cell1', 0, NULL, 0, NULL, 1, 1, 1, 1,
         1790000000000000, 1790000000000000)"""
)
_HOST = Statement(
    """INSERT INTO hosts VALUES (:uuid, 1, 'host-1', 'node-1', 'cell1', 'QEMU', 8002000, '127.0.0.1', 'x86_64', 8,
         8192, 100, 90, '{"model":"x"}', '[]', '[]', 0, 1, 1790000000000000, 1790000000000000)"""
)


async def _one_host(tx: Tx, _: None) -> None:
    await tx.execute(_SERVICE, {"uuid": SERVICE})
    await tx.execute(_HOST, {"uuid": HOST})


async def test_flavors_are_made_described_and_deleted(cloud: Cloud) -> None:
    body = {"flavor": {"name": "f", "ram": "128", "vcpus": 2, "disk": 0, "id": 7, "swap": 0}}
    assert (await cloud.call("POST", "/flavors", body)).status_code == 403
    made = (await cloud.call("POST", "/flavors", body, who="admin")).json()["flavor"]
    assert (made["id"], made["ram"], made["swap"], made["rxtx_factor"]) == ("7", 128, "", 1.0)
    assert (await cloud.call("POST", "/flavors", body, who="admin")).status_code == 409
    newest = (await cloud.get("/flavors/7", version="2.104"))["flavor"]
    assert newest["swap"] == 0
    assert "rxtx_factor" not in newest
    described = await cloud.call(
        "PUT", "/flavors/7", {"flavor": {"description": "small"}}, who="admin", version="2.55"
    )
    assert described.json()["flavor"]["description"] == "small"
    assert (await cloud.call("DELETE", "/flavors/7", who="admin")).status_code == 202
    assert (await cloud.call("DELETE", "/flavors/7", who="admin")).status_code == 404
    for wrong in ({"ram": 0}, {"vcpus": -1}, {"disk": 2**31}, {"id": " x"}, {"name": ""}, {"ram": "many"}):
        answer = await cloud.call("POST", "/flavors", {"flavor": {**body["flavor"], **wrong}}, who="admin")
        assert answer.status_code == 400, wrong


async def test_private_flavors_are_for_whom_they_are_opened(cloud: Cloud) -> None:
    assert (await cloud.call("GET", "/flavors/secret")).status_code == 404
    grant = {"addTenantAccess": {"tenant": DEMO}}
    opened = await cloud.call("POST", "/flavors/secret/action", grant, who="admin")
    assert opened.json() == {"flavor_access": [{"flavor_id": "secret", "tenant_id": DEMO}]}
    assert (await cloud.call("POST", "/flavors/secret/action", grant, who="admin")).status_code == 409
    assert (await cloud.get("/flavors/secret"))["flavor"]["name"] == "m1.secret"
    assert (await cloud.call("GET", "/flavors/secret", who="other")).status_code == 404
    assert "secret" in [each["id"] for each in (await cloud.get("/flavors"))["flavors"]]
    public = await cloud.call("POST", "/flavors/1/action", grant, who="admin", version="2.7")
    assert public.status_code == 409
    closed = await cloud.call("POST", "/flavors/secret/action", {"removeTenantAccess": {"tenant": DEMO}}, who="admin")
    assert closed.json() == {"flavor_access": []}
    assert (await cloud.call("GET", "/flavors/1/os-flavor-access", who="admin")).status_code == 404


async def test_extra_specs(cloud: Cloud) -> None:
    path = "/flavors/1/os-extra_specs"
    assert (await cloud.call("POST", path, {"extra_specs": {"a": "b"}})).status_code == 403
    assert (await cloud.call("POST", path, {"extra_specs": {"a": "b", "c": "d"}}, who="admin")).status_code == 200
    assert (await cloud.call("PUT", path + "/a", {"a": "z"}, who="admin")).json() == {"a": "z"}
    assert (await cloud.call("PUT", path + "/a", {"x": "z"}, who="admin")).status_code == 400
    assert (await cloud.call("DELETE", path + "/c", who="admin")).status_code == 200
    assert (await cloud.call("DELETE", path + "/c", who="admin")).status_code == 404
    assert await cloud.get(path) == {"extra_specs": {"a": "z"}}
    assert (await cloud.get("/flavors/1", version="2.61"))["flavor"]["extra_specs"] == {"a": "z"}
    assert "extra_specs" not in (await cloud.get("/flavors/1", version="2.60"))["flavor"]


async def test_flavor_lists_are_filtered_sorted_and_paged(cloud: Cloud) -> None:
    async def names(query: str, **more: str) -> list[str]:
        return [each["name"] for each in (await cloud.get(f"/flavors?{query}", **more))["flavors"]]

    assert await names("minRam=512") == ["m1.tiny", "m1.large"]
    assert await names("minDisk=3") == ["m1.large"]
    assert await names("sort_key=memory_mb&sort_dir=desc") == ["m1.large", "m1.tiny", "m1.nano"]
    assert await names("limit=1&marker=1") == ["m1.tiny"]
    assert await names("is_public=none", who="admin") == ["m1.nano", "m1.tiny", "m1.large", "m1.secret"]
    assert await names("is_public=false", who="admin") == ["m1.secret"]
    assert await names("name=tin", version="2.102") == ["m1.tiny"]
    for wrong in ("minRam=x", "marker=nope", "sort_key=x", "limit=-1"):
        assert (await cloud.call("GET", f"/flavors?{wrong}")).status_code == 400


async def test_keys_are_imported_shown_and_deleted(cloud: Cloud) -> None:
    body = {"keypair": {"name": "home", "public_key": SSH, "type": "ssh"}}
    made = await cloud.call("POST", "/os-keypairs", body, version="2.2")
    assert made.status_code == 201
    assert "private_key" not in made.json()["keypair"]
    assert made.json()["keypair"]["fingerprint"].count(":") == 15
    assert (await cloud.call("POST", "/os-keypairs", body, version="2.2")).status_code == 409
    assert (await cloud.call("GET", "/os-keypairs/home", who="friend")).status_code == 404
    user = TOKENS["member"].user_id
    path = f"/os-keypairs/home?user_id={user}"
    assert (await cloud.get(path, who="admin", version="2.10"))["keypair"]["user_id"] == user
    assert (await cloud.call("GET", path, who="friend", version="2.10")).status_code == 403
    assert (await cloud.call("DELETE", "/os-keypairs/home", version="2.2")).status_code == 204
    assert (await cloud.call("DELETE", "/os-keypairs/home")).status_code == 404
    for wrong in ("", "ssh-rsa", "ssh-rsa AAAA", "nonsense x", SSH.replace("AAAA", "AAAB", 1)):
        bad = await cloud.call("POST", "/os-keypairs", {"keypair": {"name": "x", "public_key": wrong}})
        assert bad.status_code == 400, wrong
    assert (await cloud.call("POST", "/os-keypairs", {"keypair": {"name": "x"}}, version="2.92")).status_code == 400


async def test_keys_are_paged_and_counted(cloud: Cloud) -> None:
    await cloud.call("PUT", "/os-quota-class-sets/default", {"quota_class_set": {"key_pairs": 3}}, who="admin")
    for name in "abc":
        made = await cloud.call("POST", "/os-keypairs", {"keypair": {"name": name, "public_key": SSH}})
        assert made.status_code == 200
    over = await cloud.call("POST", "/os-keypairs", {"keypair": {"name": "d", "public_key": SSH}})
    assert over.json()["forbidden"]["message"] == "Quota exceeded, too many key pairs."
    page = await cloud.get("/os-keypairs?limit=2", version="2.35")
    assert [each["keypair"]["name"] for each in page["keypairs"]] == ["a", "b"]
    assert page["keypairs_links"][0]["href"].endswith("/os-keypairs?limit=2&marker=b")
    await cloud.call("DELETE", "/os-keypairs/a")
    assert (await cloud.call("POST", "/os-keypairs", {"keypair": {"name": "d", "public_key": SSH}})).status_code == 200


async def test_a_certificate_is_made_for_x509(cloud: Cloud) -> None:
    made = await cloud.call("POST", "/os-keypairs", {"keypair": {"name": "w", "type": "x509"}}, version="2.2")
    assert made.json()["keypair"]["public_key"].startswith("-----BEGIN CERTIFICATE-----")


async def test_limits_and_quotas_count_what_is_there(cloud: Cloud) -> None:
    await cloud.boot()
    absolute = (await cloud.get("/limits"))["limits"]["absolute"]
    assert (absolute["totalInstancesUsed"], absolute["maxTotalInstances"], absolute["totalRAMUsed"]) == (1, 10, 64)
    assert (await cloud.call("GET", f"/limits?tenant_id={OTHER}")).status_code == 403
    assert (await cloud.call("GET", f"/os-quota-sets/{OTHER}")).status_code == 403
    path = f"/os-quota-sets/{DEMO}"
    changed = await cloud.call("PUT", path, {"quota_set": {"instances": 1, "cores": "5"}}, who="admin")
    assert (changed.json()["quota_set"]["instances"], changed.json()["quota_set"]["cores"]) == (1, 5)
    assert "id" not in changed.json()["quota_set"]
    less = await cloud.call("PUT", path, {"quota_set": {"instances": 0}}, who="admin")
    assert "must be greater than or equal to already used and reserved 1" in less.text
    forced = await cloud.call("PUT", path, {"quota_set": {"instances": 0, "force": True}}, who="admin")
    assert forced.status_code == 200
    detail = (await cloud.get(path + "/detail"))["quota_set"]
    assert detail["instances"] == {"limit": 0, "in_use": 1, "reserved": 0}
    assert (await cloud.call("DELETE", path, who="admin")).status_code == 202
    assert (await cloud.get(path))["quota_set"]["instances"] == 10
    assert (await cloud.get(path + "/defaults", version="2.57"))["quota_set"].keys() == {
        "id", "instances", "cores", "ram", "metadata_items", "key_pairs", "server_groups", "server_group_members",
    }  # fmt: skip
    for version, status in (("2.35", 200), ("2.36", 400)):
        network = await cloud.call("PUT", path, {"quota_set": {"floating_ips": 1}}, who="admin", version=version)
        assert network.status_code == status


@pytest.mark.parametrize(("version", "host", "service"), [("2.1", "1", 1), ("2.53", HOST, SERVICE)])
async def test_hosts_before_and_after_uuids(cloud: Cloud, version: str, host: str, service: object) -> None:
    await cloud.whole.write(_one_host, None)
    await cloud.active()
    assert (await cloud.call("GET", "/os-hypervisors")).status_code == 403
    listed = (await cloud.get("/os-hypervisors/detail", who="admin", version=version))["hypervisors"]
    assert str(listed[0]["id"]) == host
    assert listed[0]["service"]["id"] == service
    assert (listed[0]["vcpus"], listed[0]["running_vms"], listed[0]["state"]) == (8, 1, "up")
    shown = (await cloud.get(f"/os-hypervisors/{host}", who="admin", version=version))["hypervisor"]
    assert shown == listed[0]
    missing = "99" if version == "2.1" else DEMO
    assert (await cloud.call("GET", f"/os-hypervisors/{missing}", who="admin", version=version)).status_code == 404


async def test_hypervisors_lose_their_numbers_at_2_88(cloud: Cloud) -> None:
    await cloud.whole.write(_one_host, None)
    shown = (await cloud.get(f"/os-hypervisors/{HOST}", who="admin", version="2.88"))["hypervisor"]
    assert "vcpus" not in shown
    assert "uptime" in shown
    path = "/os-hypervisors?hypervisor_hostname_pattern=node&with_servers=true"
    found = (await cloud.get(path, who="admin", version="2.88"))["hypervisors"]
    assert [(each["hypervisor_hostname"], each["servers"]) for each in found] == [("node-1", [])]
    none = await cloud.call("GET", "/os-hypervisors?hypervisor_hostname_pattern=x", who="admin", version="2.88")
    assert none.status_code == 404
    assert (await cloud.call("GET", "/os-hypervisors/1", who="admin", version="2.88")).status_code == 400


async def test_a_service_is_taken_out_and_put_back(cloud: Cloud) -> None:
    await cloud.whole.write(_one_host, None)
    by_host = {"host": "host-1", "binary": "nova-compute"}
    off = await cloud.call(
        "PUT", "/os-services/disable-log-reason", {**by_host, "disabled_reason": "dust"}, who="admin"
    )
    assert off.json() == {"service": {**by_host, "status": "disabled", "disabled_reason": "dust"}}
    listed = (await cloud.get("/os-services", who="admin"))["services"]
    assert [(each["status"], each["disabled_reason"], each["zone"], each["id"]) for each in listed] == [
        ("disabled", "dust", "nova", 1)
    ]
    assert (await cloud.get("/os-availability-zone"))["availabilityZoneInfo"] == [
        {"zoneName": "nova", "zoneState": {"available": False}, "hosts": None}
    ]
    path = f"/os-services/{SERVICE}"
    on = await cloud.call("PUT", path, {"status": "enabled"}, who="admin", version="2.53")
    assert (on.json()["service"]["status"], on.json()["service"]["disabled_reason"]) == ("enabled", None)
    down = await cloud.call("PUT", path, {"forced_down": True}, who="admin", version="2.53")
    assert (down.json()["service"]["state"], down.json()["service"]["forced_down"]) == ("down", True)
    uuid = await cloud.active()
    status = (await cloud.get(f"/servers/{uuid}", who="admin", version="2.16"))["server"]["host_status"]
    assert status == "DOWN"
    for body, code in (({}, 400), ({"status": "off"}, 400), ({"disabled_reason": "x"}, 400)):
        assert (await cloud.call("PUT", path, body, who="admin", version="2.53")).status_code == code
    assert (await cloud.call("DELETE", path, who="admin", version="2.53")).status_code == 409
    assert (await cloud.call("PUT", "/os-services/enable", by_host, who="admin", version="2.53")).status_code == 404


async def test_zones_in_detail(cloud: Cloud) -> None:
    await cloud.whole.write(_one_host, None)
    zones = (await cloud.get("/os-availability-zone/detail", who="admin"))["availabilityZoneInfo"]
    assert zones[0]["hosts"]["host-1"]["nova-compute"]["available"] is True
    assert (await cloud.call("GET", "/os-availability-zone/detail")).status_code == 403
