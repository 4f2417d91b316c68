"""Whatever is sent: an answer below 500 (501 where Keystone is named), and everything still works after it."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

from identity_cloud import ADMIN, DEMO, Cloud, by_password

from kilonova.identity.resources import all_routes

MEMBERS = (
    "auth", "identity", "methods", "password", "user", "token", "id", "name", "domain", "project", "scope",
    "system", "all", "domain_id", "enabled", "description", "tags", "parent_id", "options", "default_project_id",
    "role", "group", "region", "service", "endpoint", "url", "interface", "type", "service_id",
    "registered_limits", "limits", "resource_name", "default_limit", "resource_limit", "credential", "blob",
    "application_credential", "roles", "expires_at", "secret", "unrestricted", "tenant_id", "original_password",
    "unscoped", "registered_limit", "limit", "parent_region_id",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1.5, 1 << 70, "", "x", "default", "password", "token", "a" * 300, "\ud7ff", "é", [], {},
    [None], {"id": 5}, {"name": "admin"}, ["password"], ["token"], [["password"]], {"all": True}, [{}], "2999-13-01",
    "ec2", '{"access": "a", "secret": "b"}', "public", {"id": "default"},
)  # fmt: skip


def random_body(chance: random.Random, depth: int = 0) -> Any:
    if depth > 4 or chance.random() < 0.4:
        return chance.choice(VALUES)
    return {chance.choice(MEMBERS): random_body(chance, depth + 1) for _ in range(chance.randint(1, 4))}


def near(chance: random.Random, body: Any) -> Any:
    """A body like a right one with something wrong in it."""
    if isinstance(body, dict) and body and chance.random() < 0.85:
        key = chance.choice(list(body))
        return {**body, key: near(chance, body[key])}
    if isinstance(body, list) and body and chance.random() < 0.7:
        return [near(chance, body[0]), *body[1:]]
    return random_body(chance, 3)


RIGHT: tuple[tuple[str, str, Any], ...] = (
    ("POST", "/v3/auth/tokens", {"auth": {"identity": by_password("demo", "wrong"), "scope": DEMO}}),
    ("POST", "/v3/users", {"user": {"name": "u", "password": "p", "enabled": True, "options": {}, "email": "x"}}),
    ("POST", "/v3/projects", {"project": {"name": "p", "tags": ["a"], "parent_id": "default", "enabled": True}}),
    ("POST", "/v3/domains", {"domain": {"name": "d", "enabled": False, "description": ""}}),
    ("POST", "/v3/roles", {"role": {"name": "r", "domain_id": None, "description": "x"}}),
    ("POST", "/v3/groups", {"group": {"name": "g", "domain_id": "default"}}),
    ("POST", "/v3/regions", {"region": {"id": "r", "parent_region_id": "RegionOne"}}),
    ("POST", "/v3/services", {"service": {"type": "t", "name": "n", "enabled": True}}),
    ("POST", "/v3/endpoints", {"endpoint": {"service_id": "x", "interface": "public", "url": "http://x"}}),
    ("POST", "/v3/credentials", {
        "credential": {"type": "ec2", "blob": '{"access": "a", "secret": "b"}', "project_id": "x"}
    }),
    ("POST", "/v3/users/{user_id}/application_credentials", {
        "application_credential": {"name": "a", "roles": [{"name": "reader"}], "expires_at": "2999-01-01"}
    }),
    ("POST", "/v3/users/{user_id}/credentials/OS-EC2", {"tenant_id": "x"}),
    ("PATCH", "/v3/projects/{project_id}", {"project": {"description": "x", "tags": ["a"], "color": {"deep": []}}}),
    ("PUT", "/v3/projects/{project_id}/tags", {"tags": ["a", "b"]}),
)  # fmt: skip


async def test_any_body_anywhere(cloud: Cloud) -> None:
    seed = 20261122
    chance = random.Random(seed)
    admin = await cloud.token("admin", ADMIN)
    creds = await cloud.identity.validator.validate(admin)
    ids = {"user_id": creds.user_id, "project_id": creds.project_id or "", "domain_id": "default"}
    routes = [each for each in all_routes() if each.method in ("POST", "PUT", "PATCH")]
    statuses = set()
    for turn in range(700):
        if turn % 2:
            route = chance.choice(routes)
            params = {name: ids.get(name, "x") for name in _params(route.path)}
            if "password" in route.path or (route.method == "PATCH" and "users" in route.path):
                params["user_id"] = "nobody"
            method, path, body = route.method, route.path.format(**params), random_body(chance)
        else:
            method, template, right = chance.choice(RIGHT)
            path, body = template.format(**ids), near(chance, right)
        content = json.dumps(body).encode()
        response = await cloud.ask(method, path, admin, content=content)
        assert response.status_code != 503, f"seed {seed}: {method} {path} {body}"
        statuses.add(response.status_code)
    assert {201, 400, 401} <= statuses
    assert await cloud.token("admin", ADMIN)


def _params(path: str) -> list[str]:
    return [part[1:-1] for part in path.split("/") if part.startswith("{")]


async def test_bytes_that_are_no_body(cloud: Cloud) -> None:
    deep = b"[" * 100_000
    for content in (b"", b"{", b"null", b"[]", b'"x"', b"\xff\xfe", deep, b'{"auth":' * 5000, b'{"auth": "\\u0000"}',
                    b'{"auth": "\\ud800"}', b"1e999", b"x" * (2 << 20)):  # fmt: skip
        response = await cloud.ask("POST", "/v3/auth/tokens", content=content)
        assert response.status_code in (400, 413), content[:50]


async def test_odd_paths_and_queries(cloud: Cloud) -> None:
    admin = await cloud.token("admin", ADMIN)
    odd = ("users/%00", "users/%ff", "users/%F0%9F%98%80", "users/..%2f..", "regions/" + "a" * 5000, "projects/")
    for path in odd:
        assert (await cloud.ask("GET", f"/v3/{path}", admin)).status_code in (200, 404)
    for query in ("name=%ff", "name=%00", "a" * 4000, "enabled=maybe", "name__foo=x", "effective=", "&="):
        for path in ("users", "projects", "role_assignments"):
            assert (await cloud.ask("GET", f"/v3/{path}?{query}", admin)).status_code in (200, 400)
    assert (await cloud.ask("PUT", f"/v3/regions/{'r' * 300}", admin, json={"region": {}})).status_code == 400


async def test_many_log_ins_at_once(cloud: Cloud) -> None:
    """Right ones all get through in turn; more than may wait get a 503 that says when to come again."""
    auth = by_password("demo", cloud.passwords["demo"])
    cloud.identity.passwords._limit = 12
    answers = await asyncio.gather(*(cloud.log_in(auth) for _ in range(30)))
    statuses = sorted(each.status_code for each in answers)
    assert statuses == [201] * 12 + [503] * 18
    assert all("retry-after" in each.headers for each in answers if each.status_code == 503)


