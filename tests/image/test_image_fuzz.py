"""Whatever a client sends, the image API answers below 500."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from image.fuzzing import NAMES, objects, queries, values
from image.image_cloud import PATCH, Cloud
from kilonova.image.attributes import READ_ONLY, SETTABLE

ATTRIBUTES = [*SETTABLE, *READ_ONLY, "location", "colour", "os_glance_x", "locations"]
KEYS = [*ATTRIBUTES, "limit", "marker", "sort", "sort_key", "sort_dir", "tag", "size_min", "member_status"]
RUNS = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@RUNS
@given(body=objects(ATTRIBUTES) | values())
async def test_create(cloud: Cloud, body: Any) -> None:
    answer = await cloud.call("POST", "/images", body if body is not None else "null")
    assert answer.status_code < 500, answer.text
    if answer.status_code == 201:
        assert (await cloud.call("GET", f"/images/{answer.json()['id']}")).json() == answer.json()


@RUNS
@given(
    ops=st.lists(
        st.fixed_dictionaries({
            "op": st.sampled_from(["add", "replace", "remove", "x"]),
            "path": st.sampled_from([f"/{name}" for name in ATTRIBUTES]) | NAMES.map("/".__add__) | NAMES,
            "value": values("x"),
        }),
        max_size=3,
    )
    | values()
)  # fmt: skip
async def test_patch(cloud: Cloud, ops: Any) -> None:
    image = await cloud.new()
    answer = await cloud.call("PATCH", f"/images/{image}", ops if ops is not None else "null", media=PATCH)
    assert answer.status_code < 500, answer.text
    assert (await cloud.call("GET", f"/images/{image}")).status_code == 200


@RUNS
@given(query=queries(KEYS))
async def test_list(cloud: Cloud, query: str) -> None:
    answer = await cloud.call("GET", f"http://cloud.test/image/v2/images?{quote(query, safe='%&=:,')}")
    assert answer.status_code < 500, answer.text


@RUNS
@given(
    method=st.sampled_from(["GET", "PUT", "POST", "DELETE", "PATCH", "HEAD"]),
    parts=st.lists(
        NAMES | st.sampled_from(["images", "members", "tags", "file", "stage", "import", "actions", "schemas", "info"]),
        max_size=4,
    ),
    body=st.binary(max_size=20) | values().map(repr).map(str.encode),
)
async def test_paths(cloud: Cloud, method: str, parts: list[str], body: bytes) -> None:
    path = "/".join(quote(part, safe="%") for part in parts)
    answer = await cloud.call(method, f"http://cloud.test/image/v2/{path}", data=body, media="application/json")
    assert answer.status_code < 500, answer.text


async def test_hostile_bodies(cloud: Cloud) -> None:
    for body in (
        b"", b"{", b"[" * 100_000, b'{"name": "\\ud800"}', b'{"name": "\\u0000"}', b'{"a":' * 5000, b"\xff\xfe",
        b'{"name": "x", "name": "y"}', b'{"size": 1e999}', b"NaN", b'"' + b"x" * (2 << 20) + b'"',
    ):  # fmt: skip
        answer = await cloud.call("POST", "/images", data=body, media="application/json")
        assert answer.status_code < 500, (body[:30], answer.text)
    long = await cloud.call("PUT", f"/images/{await cloud.new()}/tags/{'t' * 300}")
    assert long.status_code == 400
