"""An image's life over HTTP: created, filled, read, changed, shared, deleted."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from image.image_cloud import DEMO, OTHER, PATCH, TOKENS, Cloud
from kilonova.image.port import ImageNotFound


async def test_create_upload_download(cloud: Cloud) -> None:
    answer = await cloud.call("POST", "/images", {"name": "a", "disk_format": "raw", "container_format": "bare",
                                                  "hw_disk_bus": "virtio", "tags": ["b", "a", "a"]})  # fmt: skip
    assert answer.status_code == 201
    made = answer.json()
    assert answer.headers["location"] == f"/v2/images/{made['id']}"
    assert made["status"] == "queued" and made["visibility"] == "shared" and made["owner"] == DEMO
    assert made["hw_disk_bus"] == "virtio" and made["tags"] == ["a", "b"] and made["size"] is None
    data = bytes(range(256)) * 9000
    path = f"/images/{made['id']}/file"
    assert (await cloud.call("GET", path)).status_code == 204
    assert (await cloud.call("PUT", path, data=data)).status_code == 204
    assert (await cloud.call("PUT", path, data=data)).status_code == 409
    shown = await cloud.show(made["id"])
    assert shown["status"] == "active" and shown["size"] == shown["virtual_size"] == len(data)
    assert shown["checksum"] == hashlib.md5(data).hexdigest()
    assert shown["os_hash_algo"] == "sha512" and shown["os_hash_value"] == hashlib.sha512(data).hexdigest()
    got = await cloud.call("GET", path)
    assert got.content == data and got.headers["content-md5"] == shown["checksum"]
    assert got.headers["content-length"] == str(len(data))


@pytest.mark.parametrize(
    ("header", "start", "end"),
    [
        ("bytes=0-9", 0, 10),
        ("bytes=1048570-1048580", 1048570, 1048581),
        ("bytes=-5", -5, None),
        ("bytes=100-", 100, None),
    ],
)
async def test_ranges(cloud: Cloud, header: str, start: int, end: int | None) -> None:
    data = bytes(range(251)) * 8000
    image = await cloud.active(data=data)
    got = await cloud.call("GET", f"/images/{image}/file", headers={"range": header})
    assert got.status_code == 206 and got.content == data[start:end]
    assert got.headers["content-range"].endswith(f"/{len(data)}")


async def test_range_after_the_end(cloud: Cloud) -> None:
    image = await cloud.active()
    got = await cloud.call("GET", f"/images/{image}/file", headers={"range": "bytes=99-"})
    assert got.status_code == 416 and got.headers["content-range"] == "bytes */5"


async def test_delete_leaves_nothing(cloud: Cloud) -> None:
    image = await cloud.active()
    assert cloud.files()
    assert (await cloud.call("DELETE", f"/images/{image}")).status_code == 204
    assert (await cloud.call("GET", f"/images/{image}")).status_code == 404
    assert (await cloud.call("DELETE", f"/images/{image}")).status_code == 404
    assert cloud.files() == []


async def test_protected(cloud: Cloud) -> None:
    image = await cloud.active(protected=True)
    assert (await cloud.call("DELETE", f"/images/{image}")).status_code == 403
    free = [{"op": "replace", "path": "/protected", "value": False}]
    assert (await cloud.call("PATCH", f"/images/{image}", free, media=PATCH)).status_code == 200
    assert (await cloud.call("DELETE", f"/images/{image}")).status_code == 204


async def test_patch(cloud: Cloud) -> None:
    image = await cloud.active(colour="red")
    changes = [
        {"op": "replace", "path": "/name", "value": "b"},
        {"op": "add", "path": "/shape~1form", "value": "round"},
        {"op": "replace", "path": "/colour", "value": "blue"},
        {"op": "replace", "path": "/tags", "value": ["x"]},
        {"op": "add", "path": "/min_disk", "value": 3},
    ]
    answer = await cloud.call("PATCH", f"/images/{image}", changes, media=PATCH)
    assert answer.status_code == 200, answer.text
    shown = await cloud.show(image)
    assert shown == answer.json()
    assert (shown["name"], shown["shape/form"], shown["colour"], shown["tags"], shown["min_disk"]) == (
        "b", "round", "blue", ["x"], 3,
    )  # fmt: skip
    gone = await cloud.call("PATCH", f"/images/{image}", [{"op": "remove", "path": "/colour"}], media=PATCH)
    assert "colour" not in gone.json()


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"op": "replace", "path": "/size", "value": 3}, 403),
        ({"op": "replace", "path": "/id", "value": "x"}, 403),
        ({"op": "add", "path": "/deleted", "value": "x"}, 403),
        ({"op": "add", "path": "/locations/-", "value": {}}, 403),
        ({"op": "replace", "path": "/visibility", "value": "public"}, 403),
        ({"op": "replace", "path": "/owner", "value": "somebody"}, 403),
        ({"op": "replace", "path": "/disk_format", "value": "raw"}, 403),
        ({"op": "remove", "path": "/name"}, 403),
        ({"op": "replace", "path": "/missing", "value": "x"}, 409),
        ({"op": "remove", "path": "/missing"}, 409),
        ({"op": "replace", "path": "/protected", "value": "yes"}, 400),
        ({"op": "add", "path": "/number", "value": 5}, 400),
        ({"op": "replace", "path": "/min_ram", "value": -1}, 400),
        ({"op": "replace", "path": "name", "value": "x"}, 400),
        ({"op": "replace", "path": "/a/b", "value": "x"}, 400),
        ({"op": "replace", "path": "/a~x", "value": "x"}, 400),
        ({"op": "move", "path": "/a"}, 400),
        ({"op": "add", "path": "/a"}, 400),
        (7, 400),
    ],
)
async def test_patch_refused(cloud: Cloud, change: object, status: int) -> None:
    image = await cloud.active()
    before = await cloud.show(image)
    answer = await cloud.call("PATCH", f"/images/{image}", [change], media=PATCH)
    assert answer.status_code == status, answer.text
    assert await cloud.show(image) == before


async def test_patch_wants_its_media_type(cloud: Cloud) -> None:
    image = await cloud.new()
    answer = await cloud.call("PATCH", f"/images/{image}", [])
    assert answer.status_code == 415 and PATCH in answer.headers["accept-patch"]
    older = await cloud.call("PATCH", f"/images/{image}", [{"replace": "/name", "value": "old"}],
                             media="application/openstack-images-v2.0-json-patch")  # fmt: skip
    assert older.json()["name"] == "old"


async def test_deactivate(cloud: Cloud) -> None:
    image = await cloud.active()
    assert (await cloud.call("POST", f"/images/{image}/actions/deactivate")).status_code == 204
    assert (await cloud.call("GET", f"/images/{image}/file")).status_code == 403
    assert (await cloud.call("GET", f"/images/{image}/file", who="admin")).status_code == 200
    assert (await cloud.call("POST", f"/images/{image}/actions/reactivate")).status_code == 204
    assert (await cloud.call("GET", f"/images/{image}/file")).status_code == 200
    queued = await cloud.new()
    assert (await cloud.call("POST", f"/images/{queued}/actions/deactivate")).status_code == 403


async def test_stage_and_import(cloud: Cloud) -> None:
    image = await cloud.new(disk_format="raw")
    do = {"method": {"name": "glance-direct"}}
    assert (await cloud.call("POST", f"/images/{image}/import", do)).status_code == 409
    assert (await cloud.call("PUT", f"/images/{image}/stage", data=b"staged")).status_code == 204
    shown = await cloud.show(image)
    assert shown["status"] == "uploading" and shown["size"] is None
    assert (await cloud.call("GET", f"/images/{image}/file")).status_code == 204
    other = {"method": {"name": "web-download"}}
    assert (await cloud.call("POST", f"/images/{image}/import", other)).status_code == 400
    assert (await cloud.call("POST", f"/images/{image}/import", do)).status_code == 202
    assert (await cloud.show(image))["status"] == "active"
    assert (await cloud.call("GET", f"/images/{image}/file")).content == b"staged"
    tasks = (await cloud.call("GET", f"/images/{image}/tasks")).json()["tasks"]
    assert [(t["type"], t["status"]) for t in tasks] == [("api_image_import", "success")]


async def test_members_see_what_is_shared(cloud: Cloud) -> None:
    image = await cloud.active()
    assert (await cloud.call("GET", f"/images/{image}", who="other")).status_code == 404
    made = await cloud.call("POST", f"/images/{image}/members", {"member": OTHER})
    assert made.json()["status"] == "pending"
    assert (await cloud.call("POST", f"/images/{image}/members", {"member": OTHER})).status_code == 409
    assert (await cloud.call("GET", f"/images/{image}", who="other")).status_code == 200
    assert (await cloud.call("GET", "/images", who="other")).json()["images"] == []
    accept = {"status": "accepted"}
    path = f"/images/{image}/members/{OTHER}"
    assert (await cloud.call("PUT", path, accept)).status_code == 403
    assert (await cloud.call("PUT", path, accept, who="other")).status_code == 200
    listed = (await cloud.call("GET", "/images", who="other")).json()["images"]
    assert [each["id"] for each in listed] == [image]
    assert (await cloud.call("DELETE", f"/images/{image}", who="other")).status_code == 403
    assert (await cloud.call("PUT", f"/images/{image}/tags/x", who="other")).status_code == 403
    assert (await cloud.call("DELETE", path)).status_code == 204
    assert (await cloud.call("GET", f"/images/{image}", who="other")).status_code == 404


async def test_visibility(cloud: Cloud) -> None:
    private = await cloud.active("p", visibility="private")
    community = await cloud.active("c", visibility="community")
    public = await cloud.active("o", who="admin", visibility="public")
    assert (await cloud.call("POST", "/images", {"visibility": "public"})).status_code == 403
    assert (await cloud.call("POST", "/images", {"name": "r"}, who="reader")).status_code == 403

    async def ids(query: str, who: str) -> set[str]:
        return {each["id"] for each in (await cloud.call("GET", f"/images{query}", who=who)).json()["images"]}

    assert await ids("", "member") == {private, community, public}
    assert await ids("", "other") == {public}
    assert await ids("?visibility=community", "other") == {community}
    assert await ids("?visibility=all", "other") == {community, public}
    assert await ids("", "admin") == {private, public}
    assert (await cloud.call("GET", f"/images/{private}", who="other")).status_code == 404
    assert (await cloud.call("GET", f"/images/{community}/file", who="other")).status_code == 200
    assert (await cloud.call("PATCH", f"/images/{public}", [], media=PATCH)).status_code == 403
    await cloud.images.show(public, TOKENS["other"])
    with pytest.raises(ImageNotFound):
        await cloud.images.show(private, TOKENS["other"])


async def test_import_file_once(cloud: Cloud, tmp_path: Path) -> None:
    source = tmp_path / "guest.qcow2"
    source.write_bytes(b"QFI\xfb\0\0\0\3" + bytes(16) + (64 << 20).to_bytes(8, "big") + b"rest")
    first = await cloud.images.import_file(source, "guest", {"os_distro": "x"}, True)
    again = await cloud.images.import_file(source, "guest", {"os_distro": "x"}, True)
    assert again == first and first.virtual_size == 64 << 20 and len(cloud.files()) == 1
    source.unlink()
    assert b"".join([piece async for piece in cloud.images.open(first.id)]).endswith(b"rest")
    assert (await cloud.show(first.id, "other"))["visibility"] == "public"
