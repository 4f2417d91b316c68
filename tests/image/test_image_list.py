"""Lists of images: order, pages, filters."""

from __future__ import annotations

from typing import Any

import pytest

from image.image_cloud import Cloud


async def listed(cloud: Cloud, query: str, who: str = "member") -> list[str]:
    answer = await cloud.call("GET", f"/images?{query}", who=who)
    assert answer.status_code == 200, answer.text
    return [each["name"] for each in answer.json()["images"]]


@pytest.fixture
async def some(cloud: Cloud) -> dict[str, str]:
    return {
        "a": await cloud.active("a", data=b"x" * 10, tags=["t1"], os="linux", min_ram=64),
        "b": await cloud.active("b", data=b"x" * 30, tags=["t1", "t2"], os="bsd", disk_format="raw"),
        "c": await cloud.new("c", os="linux", protected=True, min_disk=4),
        "d": await cloud.new("d", os_hidden=True),
    }


async def test_newest_first(cloud: Cloud, some: dict[str, str]) -> None:
    assert await listed(cloud, "") == ["c", "b", "a"]


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("sort=name:asc", ["a", "b", "c"]),
        ("sort_key=name&sort_dir=desc", ["c", "b", "a"]),
        ("sort=size:desc,name:asc", ["b", "a", "c"]),
        ("sort=status:asc,name:desc", ["b", "a", "c"]),
        ("name=b", ["b"]),
        ("name=in:a,c&sort=name:asc", ["a", "c"]),
        ("status=queued", ["c"]),
        ("disk_format=raw", ["b"]),
        ("tag=t1&sort=name:asc", ["a", "b"]),
        ("tag=t1&tag=t2", ["b"]),
        ("os=linux&sort=name:asc", ["a", "c"]),
        ("os=linux&status=active", ["a"]),
        ("os=solaris", []),
        ("size_min=20", ["b"]),
        ("size_max=20", ["a"]),
        ("min_ram=64", ["a"]),
        ("protected=true", ["c"]),
        ("os_hidden=true", ["d"]),
        ("created_at=lt:2020-01-01T00:00:00Z", []),
        ("created_at=gte:2020-01-01T00:00:00&name=a", ["a"]),
        ("visibility=private", []),
        ("visibility=shared&sort=name:asc", ["a", "b", "c"]),
        ("limit=0", []),
    ],
)
async def test_filters_and_order(cloud: Cloud, some: dict[str, str], query: str, names: list[str]) -> None:
    assert await listed(cloud, query) == names


@pytest.mark.parametrize(
    "query",
    [
        "sort=colour:asc", "sort=name:up", "sort=name&sort_key=name", "sort_dir=asc&sort_dir=desc", "limit=-1",
        "limit=x", "marker=nowhere", "visibility=secret", "member_status=perhaps", "size_min=big", "protected=maybe",
        "created_at=yesterday", "changes-since=1", "name=%00", "min_ram=99999999999999999999", "%ff=%ff",
    ],
)  # fmt: skip
async def test_refused(cloud: Cloud, query: str) -> None:
    assert (await cloud.call("GET", f"/images?{query}")).status_code == 400


@pytest.mark.parametrize(
    "order", ["sort=name:asc", "sort=size:desc", "sort=created_at:asc", "sort=disk_format:asc,id:desc"]
)
async def test_pages(cloud: Cloud, order: str) -> None:
    for n in range(7):
        await cloud.new(f"i{n % 3}", disk_format="raw" if n % 2 else "qcow2")
    whole = (await cloud.call("GET", f"/images?{order}")).json()["images"]
    seen: list[Any] = []
    path = f"/images?{order}&limit=2"
    while True:
        page = (await cloud.call("GET", path)).json()
        assert len(page["images"]) <= 2 and page["first"].startswith("/v2/images?")
        seen += page["images"]
        if "next" not in page:
            break
        path = page["next"].removeprefix("/v2")
    assert seen == whole and len(whole) == 7


async def test_default_page(cloud: Cloud) -> None:
    for n in range(27):
        await cloud.new(str(n))
    page = (await cloud.call("GET", "/images")).json()
    assert len(page["images"]) == 25 and "next" in page
