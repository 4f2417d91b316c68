"""Whatever is sent, the answer is the client's fault or a success: never a 500."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.api_cloud import IMAGE, Cloud
from kilonova.api.microversion.fields import Body
from kilonova.api.operation import Operation
from kilonova.api.operations import all_operations

_TEXT = st.one_of(
    st.text(max_size=8),
    st.sampled_from(
        ["", " ", "a", "1", "-1", "0", "9" * 30, IMAGE, "true", "10.0.0.1", "::1", "2020-01-01T00:00:00Z", "9999-12-31",
         "0001-01-01T00:00:00+14:00", "(", "[a-z]+", "%", "nova:x:y", "none", "auto", "é", "\x00", "a" * 300, "SOFT"]
    ),
)  # fmt: skip
_ATOM = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(-2, 3), st.floats(allow_nan=False, allow_infinity=False), _TEXT
)
_ANY = st.recursive(
    _ATOM, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXT, inner, max_size=3), max_leaves=8
)
_SETTINGS = settings(
    max_examples=250, deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip
_ALL = [each for each in all_operations() if each.function.__name__ != "answer" and "events" not in each.path]
_VERSIONS = [1, 2, 7, 19, 26, 37, 53, 58, 75, 90, 104]


def _near(schema: Any, depth: int = 0) -> st.SearchStrategy[Any]:
    """Values around what a schema takes: its members and its types, and now and then anything."""
    choices: list[st.SearchStrategy[Any]] = [_ATOM if depth > 3 else _ANY]
    for each in schema.get("oneOf", []) + schema.get("allOf", []):
        choices.append(_near(each, depth + 1))
    if "enum" in schema:
        choices.append(st.sampled_from(schema["enum"]))
    if schema.get("properties"):
        members = {name: _near(each, depth + 1) for name, each in schema["properties"].items()}
        needed = {name: members.pop(name) for name in schema.get("required", ()) if name in members}
        choices += [st.fixed_dictionaries(needed, optional=members)] * 6
    if "items" in schema:
        choices.append(st.lists(_near(schema["items"], depth + 1), max_size=3))
    types = schema.get("type", ())
    types = [types] if isinstance(types, str) else types
    if "string" in types:
        choices += [_TEXT, st.just(IMAGE), st.just("1")]
    if "integer" in types:
        choices.append(st.integers(0, 5))
    if schema.get("patternProperties"):
        choices.append(st.dictionaries(_TEXT, _TEXT, max_size=3))
    return st.one_of(choices)


def _sent(body: Body | None, version: int) -> st.SearchStrategy[Any]:
    return st.none() if body is None else _near(body.schema(version))


@st.composite
def _requests(draw: st.DrawFn) -> tuple[Operation, int, Any, list[tuple[str, str]], dict[str, str]]:
    operation = draw(st.sampled_from(_ALL))
    versions = [v for v in _VERSIONS if operation.lives(v)] or [operation.since]
    version = draw(st.sampled_from(versions))
    body = draw(_sent(operation.body, version))
    known = list(operation.query.schema(version)["properties"]) if operation.query is not None else []
    names = st.sampled_from([*known, "x"]) if known else st.just("x")
    query = draw(st.lists(st.tuples(names, _TEXT), max_size=3))
    names_in_path = [part[1:-1] for part in operation.path.split("/") if part.startswith("{")]
    return operation, version, body, query, {name: draw(_TEXT) for name in names_in_path}


@given(sent=_requests(), own=st.booleans(), who=st.sampled_from(["member", "demo-admin", "reader"]))
@_SETTINGS
async def test_no_request_is_answered_by_a_500(cloud: Cloud, sent: Any, own: bool, who: str) -> None:
    from urllib.parse import quote, urlencode

    operation, version, body, query, params = sent
    path = operation.path
    if own and "server_id" in params:
        if not hasattr(cloud, "fuzzed"):
            cloud.fuzzed = await cloud.active()  # type: ignore[attr-defined]
        params["server_id"] = cloud.fuzzed  # type: ignore[attr-defined]
    for name, value in params.items():
        path = path.replace("{" + name + "}", quote(value, safe="") or "x")
    if query:
        path += "?" + urlencode(query)
    content = None
    if operation.method in ("POST", "PUT"):
        content = json.dumps(body).encode()
    answer = await cloud.call(operation.method, path, who=who, version=f"2.{version}", content=content)
    assert answer.status_code < 500, (operation.method, path, version, body, answer.text)
    if answer.status_code >= 400:
        assert next(iter(answer.json().values()))["code"] == answer.status_code
