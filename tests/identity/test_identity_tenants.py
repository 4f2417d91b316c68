"""Who may do what: every route asked by people who may not, and nobody sees another tenant's things."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from identity_cloud import ADMIN, Cloud

from kilonova.identity.resources import all_routes

# What everybody with any token may do, by route; all else is refused to a member of another project.
OPEN = {
    "GET /v3/auth/catalog", "GET /v3/auth/projects", "GET /v3/auth/domains", "GET /v3/auth/system",
    "GET /v3/regions", "GET /v3/regions/{region_id}", "GET /v3/registered_limits", "GET /v3/limits",
    "GET /v3/limits/model", "GET /v3/credentials",
}  # fmt: skip
OWN_LATER = {"GET /v3/limits/{limit_id}", "GET /v3/registered_limits/{limit_id}"}
"""Nothing of the kind is there: 404."""
BODIES = {"POST /v3/credentials": {"credential": {"type": "cert", "blob": "x", "user_id": "admin"}}}


@dataclass
class Ids:
    """Things of the cloud's owner, by path parameter."""

    values: dict[str, str]


@pytest.fixture
async def ids(cloud: Cloud) -> Ids:
    admin = await cloud.token("admin", ADMIN)
    creds = await cloud.identity.validator.validate(admin)
    group = await cloud.make(admin, "/v3/groups", "group", name="g")
    own = f"/v3/users/{creds.user_id}"
    appcred = await cloud.make(admin, f"{own}/application_credentials", "application_credential", name="x")
    credential = await cloud.make(admin, "/v3/credentials", "credential", type="cert", blob="x")
    service = await cloud.make(admin, "/v3/services", "service", type="dns")
    endpoint = await cloud.make(
        admin, "/v3/endpoints", "endpoint", service_id=service["id"], interface="public", url="http://x"
    )
    ec2 = await cloud.ask("POST", f"{own}/credentials/OS-EC2", admin, json={"tenant_id": creds.project_id})
    return Ids({
        "user_id": creds.user_id, "project_id": creds.project_id or "", "domain_id": "default", "group_id": group["id"],
        "role_id": await cloud.role(admin, "member"), "implied_id": await cloud.role(admin, "reader"),
        "appcred_id": appcred["id"], "credential_id": credential["id"], "service_id": service["id"],
        "endpoint_id": endpoint["id"], "access": ec2.json()["credential"]["access"], "region_id": "RegionOne",
        "limit_id": "none", "tag": "t",
    })  # fmt: skip


@pytest.mark.parametrize("home", ["default", "other"])
async def test_a_member_of_elsewhere_may_nothing_that_is_not_open(cloud: Cloud, ids: Ids, home: str) -> None:
    admin = await cloud.token("admin", ADMIN)
    if home == "other":
        home = (await cloud.make(admin, "/v3/domains", "domain", name="other"))["id"]
    project = await cloud.make(admin, "/v3/projects", "project", name="mine", domain_id=home)
    user = await cloud.make(admin, "/v3/users", "user", name="m", domain_id=home, password="secret")
    member = await cloud.role(admin, "member")
    await cloud.ask("PUT", f"/v3/projects/{project['id']}/users/{user['id']}/roles/{member}", admin)
    auth = {"methods": ["password"], "password": {"user": {"id": user["id"], "password": "secret"}}}
    token = (await cloud.log_in(auth, {"project": {"id": project["id"]}})).headers["x-subject-token"]
    before = cloud.identity.directory.state.version
    for route in all_routes():
        name = f"{route.method.replace('HEAD', 'GET')} {route.path}"
        if not route.auth or name in OPEN or (name == "GET /v3/domains/{domain_id}" and home == "default"):
            continue
        if name == "GET /v3/auth/tokens" or name == "DELETE /v3/auth/tokens":
            response = await cloud.ask(route.method, route.path, token, headers={"x-subject-token": admin})
        else:
            body = BODIES.get(name, {}) if route.method in ("POST", "PUT", "PATCH") else None
            response = await cloud.ask(route.method, route.path.format(**ids.values), token, json=body)
        wanted = (403, 404) if name in OWN_LATER else (403,)
        assert response.status_code in wanted, f"{name}: {response.status_code} {response.text}"
    assert cloud.identity.directory.state.version == before
    for path in ("credentials", "limits"):
        assert (await cloud.ask("GET", f"/v3/{path}", token)).json()[path] == []


async def test_a_reader_of_a_domain_sees_that_domain_only(cloud: Cloud, ids: Ids) -> None:
    admin = await cloud.token("admin", ADMIN)
    home = (await cloud.make(admin, "/v3/domains", "domain", name="other"))["id"]
    user = await cloud.make(admin, "/v3/users", "user", name="m", domain_id=home, password="secret")
    project = await cloud.make(admin, "/v3/projects", "project", name="mine", domain_id=home)
    reader = await cloud.role(admin, "reader")
    await cloud.ask("PUT", f"/v3/domains/{home}/users/{user['id']}/roles/{reader}", admin)
    auth = {"methods": ["password"], "password": {"user": {"id": user["id"], "password": "secret"}}}
    token = (await cloud.log_in(auth, {"domain": {"id": home}})).headers["x-subject-token"]

    async def seen(path: str) -> set[str]:
        return {each["id"] for each in (await cloud.ask("GET", f"/v3/{path}", token)).json()[path]}

    assert await seen("users") == {user["id"]}
    assert await seen("projects") == {project["id"]}
    assert await seen("domains") == {home}
    assert await seen("groups") == set()
    found = (await cloud.ask("GET", "/v3/role_assignments", token)).json()["role_assignments"]
    assert [each["user"]["id"] for each in found] == [user["id"]]
    assert (await cloud.ask("GET", f"/v3/users/{ids.values['user_id']}", token)).status_code == 403
    assert (await cloud.ask("GET", "/v3/users/nobody", token)).status_code == 403
    assert (await cloud.ask("POST", "/v3/users", token, json={"user": {"name": "x"}})).status_code == 403


async def test_everybody_sees_what_is_their_own(cloud: Cloud) -> None:
    demo = await cloud.token("demo")
    me = await cloud.identity.validator.validate(demo)
    mine = f"users/{me.user_id}"
    for path in (
        mine, f"{mine}/projects", f"{mine}/groups", f"{mine}/application_credentials", f"{mine}/credentials/OS-EC2",
        f"projects/{me.project_id}", "domains/default",
    ):  # fmt: skip
        assert (await cloud.ask("GET", f"/v3/{path}", demo)).status_code == 200
    assert (await cloud.ask("PATCH", f"/v3/users/{me.user_id}", demo, json={"user": {"name": "x"}})).status_code == 403


async def test_nothing_works_without_a_token(cloud: Cloud) -> None:
    for route in all_routes():
        if route.auth:
            assert (await cloud.ask(route.method, route.path)).status_code == 401
