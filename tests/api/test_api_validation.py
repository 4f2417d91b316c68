"""A body or query that does not fit, and the words that say so."""

from __future__ import annotations

from typing import Any

import pytest

from api.api_cloud import IMAGE, Cloud


def _server(**more: Any) -> dict[str, Any]:
    return {"server": {"name": "web", "flavorRef": "1", "imageRef": IMAGE, **more}}


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (_server(name=""), "Invalid input for field/attribute name. Value: . '' should be non-empty"),
        (_server(name=1), "Invalid input for field/attribute name. Value: 1. 1 is not of type 'string'"),
        (
            _server(metadata={"k": 1}),
            "Invalid input for field/attribute k. Value: 1. 1 is not of type 'string'",
        ),
        (_server(min_count=0), "Invalid input for field/attribute min_count. Value: 0. "
                               "0 is less than the minimum of 1"),
        (_server(min_count="0"), "Invalid input for field/attribute min_count. Value: 0. "
                                 "'0' is less than the minimum of 1"),
        (_server(accessIPv4="x"), "Invalid input for field/attribute accessIPv4. Value: x. 'x' is not a 'ipv4'"),
        ({"server": {"name": "x"}}, "Invalid input for field/attribute server. Value: {'name': 'x'}. "
                                    "'flavorRef' is a required property"),
        ({"srv": {}}, "'server' is a required property"),
        (_server(name=" x"), "An invalid 'name' value was provided. The name must be: printable characters. "
                             "Can not start or end with whitespace."),
        (_server(user_data="YQ"), "Invalid input for field/attribute user_data. Value: YQ. 'YQ' is not a 'base64'"),
    ],
)  # fmt: skip
async def test_a_wrong_body_is_said_in_the_words_clients_know(cloud: Cloud, body: Any, message: str) -> None:
    answer = await cloud.call("POST", "/servers", body)
    assert answer.status_code == 400
    assert answer.json() == {"badRequest": {"code": 400, "message": message}}


async def test_a_field_of_a_later_version_says_which(cloud: Cloud) -> None:
    answer = await cloud.call("POST", "/servers", _server(description="d", tags=["a"], nonsense=1))
    message = answer.json()["badRequest"]["message"]
    assert "Additional properties are not allowed ('description', 'nonsense', 'tags' were unexpected)" in message
    assert message.endswith("Accepted later: 'description' from microversion 2.19, 'tags' from microversion 2.52.")


async def test_a_bad_query_names_the_parameter(cloud: Cloud) -> None:
    answer = await cloud.call("GET", "/servers?changes-since=yesterday")
    assert answer.json()["badRequest"]["message"] == (
        "Invalid input for query parameters changes-since. Value: yesterday. 'yesterday' is not a 'date-time'"
    )
    assert (await cloud.call("GET", "/servers?foo=1", version="2.74")).status_code == 200
    assert (await cloud.call("GET", "/servers?foo=1", version="2.75")).status_code == 400
    assert (await cloud.call("GET", "/extensions?foo=1", version="2.101")).status_code == 200
    assert (await cloud.call("GET", "/extensions?foo=1", version="2.102")).status_code == 400


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b"null", 400),
        (b'"x"', 400),
        (b'{"server": {"name": "a\\u0000b"}}', 400),
        (b'{"server": {"name": "\\ud800"}}', 400),
        (b"[" * 100_000, 400),
        (b'{"server": ' + b"[" * 70 + b"]" * 70 + b"}", 400),
        (b"{" + b" " * (1 << 20) + b"}", 413),
    ],
)
async def test_broken_bodies_are_the_clients_fault(cloud: Cloud, content: bytes, status: int) -> None:
    answer = await cloud.call("POST", "/servers", content=content)
    assert answer.status_code == status, answer.text


async def test_other_media_types_are_refused(cloud: Cloud) -> None:
    answer = await cloud.call("POST", "/servers", content=b"<server/>", headers={"content-type": "application/xml"})
    assert answer.status_code == 415


async def test_actions_are_found_by_their_one_name(cloud: Cloud) -> None:
    uuid = await cloud.active()
    for body, message in (
        ({"fly": None}, "There is no such action: fly"),
        ({}, "Malformed request body"),
        ([], "Malformed request body"),
        ({"os-start": None, "os-stop": None}, "Additional properties are not allowed ('os-stop' was unexpected)"),
    ):
        answer = await cloud.call("POST", f"/servers/{uuid}/action", content=__import__("json").dumps(body).encode())
        assert answer.status_code == 400
        assert answer.json()["badRequest"]["message"] == message
