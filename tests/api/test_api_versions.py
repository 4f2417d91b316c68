"""Which microversion an answer is in, where the API is mounted, and who may come in."""

from __future__ import annotations

import pytest

from api.api_cloud import DEMO, IMAGE, OTHER, Cloud

ROOT = "http://cloud.test/compute"


@pytest.mark.parametrize(
    ("headers", "used"),
    [
        ({}, "2.1"),
        ({"openstack-api-version": "compute 2.53"}, "2.53"),
        ({"x-openstack-nova-api-version": "2.19"}, "2.19"),
        ({"openstack-api-version": "compute 2.53", "x-openstack-nova-api-version": "2.19"}, "2.53"),
        ({"openstack-api-version": "compute latest"}, "2.104"),
        ({"openstack-api-version": "volume 3.5, compute 2.60"}, "2.60"),
        ({"openstack-api-version": "volume 3.5"}, "2.1"),
    ],
)
async def test_the_version_asked_for_is_used_and_said(cloud: Cloud, headers: dict[str, str], used: str) -> None:
    answer = await cloud.call("GET", "/flavors", headers=headers)
    assert answer.status_code == 200
    assert answer.headers["openstack-api-version"] == f"compute {used}"
    assert answer.headers["x-openstack-nova-api-version"] == used
    assert answer.headers["vary"] == "OpenStack-API-Version, X-OpenStack-Nova-API-Version"


@pytest.mark.parametrize(
    ("version", "status"),
    [("2.105", 406), ("2.0", 406), ("3.1", 406), ("two", 400), ("2", 400), ("2.01", 400), ("", 400), ("2.1.1", 400)],
)
async def test_a_version_that_cannot_be_is_refused(cloud: Cloud, version: str, status: int) -> None:
    answer = await cloud.call("GET", "/flavors", version=version)
    assert answer.status_code == status
    if status == 406:
        assert "Minimum is 2.1 and maximum is 2.104" in answer.json()["computeFault"]["message"]


async def test_version_documents_need_no_token(cloud: Cloud) -> None:
    for url in (f"{ROOT}/", ROOT):
        versions = (await cloud.call("GET", url, who=None)).json()["versions"]
        assert [(v["id"], v["version"], v["min_version"]) for v in versions] == [
            ("v2.0", "", ""), ("v2.1", "2.104", "2.1"),
        ]  # fmt: skip
        assert versions[1]["links"] == [{"rel": "self", "href": f"{ROOT}/v2.1/"}]
    for path, name in (("v2.1/", "v2.1"), ("v2.1", "v2.1"), ("v2/", "v2.0")):
        document = (await cloud.call("GET", f"{ROOT}/{path}", who=None)).json()["version"]
        assert document["id"] == name
        assert document["links"][0]["rel"] == "self"
    other = await cloud.call("GET", f"{ROOT}/v7/servers", who=None)
    assert other.status_code == 300
    assert [choice["id"] for choice in other.json()["choices"]] == ["v2.0", "v2.1"]


async def test_without_a_token_nothing_is_told(cloud: Cloud) -> None:
    for who in (None, "forged"):
        answer = await cloud.call("GET", "/servers", who=who)
        assert answer.status_code == 401
        assert answer.json()["error"]["title"] == "Unauthorized"
        assert answer.headers["www-authenticate"].startswith('Keystone uri="http://cloud.test/')


async def test_every_answer_carries_its_request_id(cloud: Cloud) -> None:
    for path, who in (("/servers", "member"), ("/nothing", "member"), ("/servers", None)):
        answer = await cloud.call("GET", path, who=who)
        assert answer.headers["x-compute-request-id"] == answer.headers["x-openstack-request-id"]
        assert answer.headers["x-compute-request-id"].startswith("req-")


async def test_the_project_in_the_path_is_optional_and_checked(cloud: Cloud) -> None:
    uuid = await cloud.boot()
    assert (await cloud.get(f"/{DEMO}/servers/{uuid}"))["server"]["id"] == uuid
    links = (await cloud.get(f"/{DEMO}/servers/{uuid}"))["server"]["links"]
    assert links == [
        {"rel": "self", "href": f"{ROOT}/v2.1/{DEMO}/servers/{uuid}"},
        {"rel": "bookmark", "href": f"{ROOT}/{DEMO}/servers/{uuid}"},
    ]
    wrong = await cloud.call("GET", f"/{OTHER}/servers")
    assert wrong.status_code == 400
    assert "doesn't match Context's project_id" in wrong.json()["badRequest"]["message"]


async def test_the_legacy_mount_ignores_versions_and_unknown_properties(cloud: Cloud) -> None:
    body = {"server": {"name": "w", "flavorRef": "1", "imageRef": IMAGE, "no_such_thing": 1, "description": "x"}}
    relaxed = await cloud.call("POST", f"{ROOT}/v2/servers", body, version="2.90")
    assert relaxed.status_code == 202, relaxed.text
    assert "openstack-api-version" not in relaxed.headers
    strict = await cloud.call("POST", "/servers", body)
    assert strict.status_code == 400


async def test_operations_live_and_die_with_versions(cloud: Cloud) -> None:
    uuid = await cloud.boot()
    assert (await cloud.call("GET", f"/servers/{uuid}/tags", version="2.25")).status_code == 404
    assert (await cloud.call("GET", f"/servers/{uuid}/tags", version="2.26")).status_code == 200
    assert (await cloud.call("GET", "/os-hypervisors/statistics", version="2.87", who="admin")).status_code == 200
    gone = await cloud.call("GET", "/os-cells", version="2.1")
    assert gone.status_code == 410
    assert (await cloud.call("GET", "/os-fixed-ips/10.0.0.1", version="2.36")).status_code == 404
    later = await cloud.call("GET", "/os-server-groups")
    assert later.status_code == 501
    assert "/os-server-groups" in later.json()["notImplemented"]["message"]


async def test_what_is_not_there_is_404_in_any_method(cloud: Cloud) -> None:
    for method, path in (("GET", "/nothing"), ("PATCH", "/servers"), ("DELETE", "/servers"), ("GET", "/servers/a/b/c")):
        answer = await cloud.call(method, path)
        assert answer.status_code == 404
        assert answer.json()["itemNotFound"]["code"] == 404


async def test_a_system_scoped_token_is_refused(cloud: Cloud) -> None:
    assert (await cloud.call("GET", "/servers", who="system")).status_code == 403
    refused = await cloud.call("GET", "/os-services", who="system")
    assert refused.json()["forbidden"]["message"] == (
        "Policy doesn't allow os_compute_api:os-services:list to be performed."
    )
