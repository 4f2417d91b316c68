"""Users, projects, roles, groups, ... as an admin works with them."""

from __future__ import annotations

import pytest
from identity_cloud import ADMIN, Cloud, by_password


@pytest.fixture
async def admin(cloud: Cloud) -> str:
    return await cloud.token("admin", ADMIN)


@pytest.mark.parametrize(
    ("path", "member", "fields", "change"),
    [
        ("/v3/domains", "domain", {"name": "d"}, {"description": "x", "enabled": False}),
        ("/v3/projects", "project", {"name": "p"}, {"description": "x", "tags": ["a"], "color": "red"}),
        ("/v3/users", "user", {"name": "u", "password": "secret", "email": "u@x"}, {"email": "v@x", "enabled": False}),
        ("/v3/groups", "group", {"name": "g"}, {"description": "x"}),
        ("/v3/roles", "role", {"name": "r"}, {"description": "x"}),
        ("/v3/regions", "region", {"id": "r1"}, {"description": "x"}),
        ("/v3/services", "service", {"type": "dns", "name": "designate"}, {"enabled": False}),
    ],
)
async def test_a_thing_lives(
    cloud: Cloud, admin: str, path: str, member: str, fields: dict[str, object], change: dict[str, object]
) -> None:
    made = await cloud.make(admin, path, member, **fields)
    one = f"{path}/{made['id']}"
    assert made["links"]["self"].endswith(f"/identity{one}")
    assert "password" not in made
    shown = await cloud.ask("GET", one, admin)
    assert shown.json()[member] == made
    listed = (await cloud.ask("GET", path, admin)).json()
    assert made in listed[path.rpartition("/")[2]] and listed["links"]["next"] is None
    if "name" in fields:
        again = await cloud.ask("POST", path, admin, json={member: fields})
        assert again.status_code == (201 if member == "service" else 409)
        found = (await cloud.ask("GET", f"{path}?name={fields['name']}", admin)).json()[path.rpartition("/")[2]]
        assert made in found
    changed = await cloud.ask("PATCH", one, admin, json={member: change})
    assert changed.status_code == 200 and changed.json()[member] == {**made, **change}
    assert (await cloud.ask("DELETE", one, admin)).status_code == 204
    assert (await cloud.ask("GET", one, admin)).status_code == 404
    assert (await cloud.ask("PATCH", one, admin, json={member: change})).status_code == 404
    assert (await cloud.ask("DELETE", one, admin)).status_code == 404


async def test_filters(cloud: Cloud, admin: str) -> None:
    async def names(query: str) -> set[str]:
        found = (await cloud.ask("GET", f"/v3/projects?{query}", admin)).json()["projects"]
        return {each["name"] for each in found}

    await cloud.make(admin, "/v3/projects", "project", name="demolition", enabled=False, tags=["x", "y"])
    assert await names("name__startswith=demo") == {"demo", "demolition"}
    assert await names("name__icontains=LIT") == {"demolition"}
    assert await names("enabled=false") == {"demolition"}
    assert await names("tags=x,y") == {"demolition"}
    assert await names("not-tags-any=x") == {"admin", "demo", "service"}
    assert await names("domain_id=other") == set()


async def test_a_tree_of_projects(cloud: Cloud, admin: str) -> None:
    top = await cloud.make(admin, "/v3/projects", "project", name="top")
    low = await cloud.make(admin, "/v3/projects", "project", name="low", parent_id=top["id"])
    assert low["domain_id"] == "default" and top["parent_id"] == "default"
    shown = (await cloud.ask("GET", f"/v3/projects/{low['id']}?parents_as_ids", admin)).json()["project"]
    assert shown["parents"] == {top["id"]: {"default": None}}
    shown = (await cloud.ask("GET", f"/v3/projects/{top['id']}?subtree_as_list", admin)).json()["project"]
    assert [each["project"]["id"] for each in shown["subtree"]] == [low["id"]]
    assert (await cloud.ask("DELETE", f"/v3/projects/{top['id']}", admin)).status_code == 403
    disable = {"project": {"enabled": False}}
    assert (await cloud.ask("PATCH", f"/v3/projects/{top['id']}", admin, json=disable)).status_code == 403


async def test_tags(cloud: Cloud, admin: str) -> None:
    path = f"/v3/projects/{(await cloud.make(admin, '/v3/projects', 'project', name='p'))['id']}/tags"
    assert (await cloud.ask("PUT", path, admin, json={"tags": ["a", "b"]})).json()["tags"] == ["a", "b"]
    assert (await cloud.ask("PUT", f"{path}/c", admin)).status_code == 201
    assert (await cloud.ask("DELETE", f"{path}/a", admin)).status_code == 204
    assert (await cloud.ask("GET", f"{path}/a", admin)).status_code == 404
    assert (await cloud.ask("GET", path, admin)).json()["tags"] == ["b", "c"]
    assert (await cloud.ask("DELETE", path, admin)).status_code == 204


async def test_grants_to_users_and_groups_and_their_listing(cloud: Cloud, admin: str) -> None:
    user = await cloud.make(admin, "/v3/users", "user", name="u", password="secret")
    group = await cloud.make(admin, "/v3/groups", "group", name="g")
    project = await cloud.make(admin, "/v3/projects", "project", name="p")
    reader, member = await cloud.role(admin, "reader"), await cloud.role(admin, "member")
    of_user = f"/v3/projects/{project['id']}/users/{user['id']}/roles/{reader}"
    of_group = f"/v3/projects/{project['id']}/groups/{group['id']}/roles/{member}"
    scope = {"project": {"id": project["id"]}}
    assert (await cloud.log_in(by_password("u", "secret"), scope)).status_code == 401
    for path in (of_user, of_group):
        assert (await cloud.ask("HEAD", path, admin)).status_code == 404
        assert (await cloud.ask("PUT", path, admin)).status_code == 204
        assert (await cloud.ask("PUT", path, admin)).status_code == 204
        assert (await cloud.ask("HEAD", path, admin)).status_code == 204
    roles = (await cloud.log_in(by_password("u", "secret"), scope)).json()["token"]["roles"]
    assert [each["name"] for each in roles] == ["reader"]
    assert (await cloud.ask("PUT", f"/v3/groups/{group['id']}/users/{user['id']}", admin)).status_code == 204
    roles = (await cloud.log_in(by_password("u", "secret"), scope)).json()["token"]["roles"]
    assert [each["name"] for each in roles] == ["member", "reader"]

    query = f"/v3/role_assignments?scope.project.id={project['id']}"
    direct = (await cloud.ask("GET", f"{query}&include_names", admin)).json()["role_assignments"]
    assert {(each["role"]["name"], *(k for k in ("user", "group") if k in each)) for each in direct} == {
        ("reader", "user"), ("member", "group")
    }  # fmt: skip
    assert all(each["links"]["assignment"].endswith(each["role"]["id"]) for each in direct)
    effective = (await cloud.ask("GET", f"{query}&effective", admin)).json()["role_assignments"]
    assert {each["role"]["id"] for each in effective} == {reader, member}
    assert {each["user"]["id"] for each in effective} == {user["id"]}
    mine = (await cloud.ask("GET", f"{query}&user.id={user['id']}", admin)).json()["role_assignments"]
    assert len(mine) == 1
    theirs = (await cloud.ask("GET", f"/v3/users/{user['id']}/projects", admin)).json()["projects"]
    assert [each["id"] for each in theirs] == [project["id"]]
    assert (await cloud.ask("DELETE", of_user, admin)).status_code == 204
    assert (await cloud.ask("DELETE", f"/v3/groups/{group['id']}", admin)).status_code == 204
    assert (await cloud.ask("GET", query, admin)).json()["role_assignments"] == []


async def test_system_roles(cloud: Cloud, admin: str) -> None:
    user = await cloud.make(admin, "/v3/users", "user", name="auditor", password="secret")
    reader = await cloud.role(admin, "reader")
    assert (await cloud.ask("PUT", f"/v3/system/users/{user['id']}/roles/{reader}", admin)).status_code == 204
    token = await cloud.token("auditor", {"system": {"all": True}}, "secret")
    assert (await cloud.ask("GET", "/v3/users", token)).status_code == 200
    assert (await cloud.ask("POST", "/v3/projects", token, json={"project": {"name": "x"}})).status_code == 403


async def test_implied_roles(cloud: Cloud, admin: str) -> None:
    rules = (await cloud.ask("GET", "/v3/role_inferences", admin)).json()["role_inferences"]
    assert {(r["prior_role"]["name"], i["name"]) for r in rules for i in r["implies"]} == {
        ("admin", "manager"), ("manager", "member"), ("member", "reader")
    }  # fmt: skip
    new = await cloud.make(admin, "/v3/roles", "role", name="observer")
    member, chief = await cloud.role(admin, "member"), await cloud.role(admin, "admin")
    assert (await cloud.ask("PUT", f"/v3/roles/{member}/implies/{new['id']}", admin)).status_code == 201
    assert "observer" in (await cloud.identity.validator.validate(await cloud.token("demo"))).roles
    assert (await cloud.ask("PUT", f"/v3/roles/{new['id']}/implies/{member}", admin)).status_code == 403
    assert (await cloud.ask("PUT", f"/v3/roles/{new['id']}/implies/{chief}", admin)).status_code == 403
    assert (await cloud.ask("DELETE", f"/v3/roles/{member}/implies/{new['id']}", admin)).status_code == 204
    assert "observer" not in (await cloud.identity.validator.validate(await cloud.token("demo"))).roles


async def test_the_roles_that_policies_rest_on_stay(cloud: Cloud, admin: str) -> None:
    for name in ("admin", "reader", "service"):
        path = f"/v3/roles/{await cloud.role(admin, name)}"
        assert (await cloud.ask("DELETE", path, admin)).status_code == 403
        assert (await cloud.ask("PATCH", path, admin, json={"role": {"name": "x"}})).status_code == 403
    assert (await cloud.ask("POST", "/v3/roles", admin, json={"role": {"name": "ADMIN"}})).status_code == 409


async def test_a_role_of_a_domain_named_admin_is_no_admin(cloud: Cloud, admin: str) -> None:
    role = await cloud.make(admin, "/v3/roles", "role", name="admin", domain_id="default")
    demo = (await cloud.ask("GET", "/v3/users?name=demo", admin)).json()["users"][0]["id"]
    project = (await cloud.ask("GET", "/v3/projects?name=demo", admin)).json()["projects"][0]["id"]
    path = f"/v3/projects/{project}/users/{demo}/roles/{role['id']}"
    assert (await cloud.ask("PUT", path, admin)).status_code == 204
    assert not (await cloud.identity.validator.validate(await cloud.token("demo"))).is_admin


async def test_domains_go_with_all_that_is_in_them(cloud: Cloud, admin: str) -> None:
    domain = await cloud.make(admin, "/v3/domains", "domain", name="d")
    user = await cloud.make(admin, "/v3/users", "user", name="u", domain_id=domain["id"], password="secret")
    project = await cloud.make(admin, "/v3/projects", "project", name="p", domain_id=domain["id"])
    role = await cloud.role(admin, "member")
    await cloud.ask("PUT", f"/v3/projects/{project['id']}/users/{user['id']}/roles/{role}", admin)
    assert (await cloud.ask("DELETE", f"/v3/domains/{domain['id']}", admin)).status_code == 403
    await cloud.ask("PATCH", f"/v3/domains/{domain['id']}", admin, json={"domain": {"enabled": False}})
    assert (await cloud.ask("DELETE", f"/v3/domains/{domain['id']}", admin)).status_code == 204
    for path in (f"/v3/users/{user['id']}", f"/v3/projects/{project['id']}"):
        assert (await cloud.ask("GET", path, admin)).status_code == 404
    listed = (await cloud.ask("GET", f"/v3/role_assignments?user.id={user['id']}", admin)).json()
    assert listed["role_assignments"] == []
    assert (await cloud.ask("DELETE", "/v3/domains/default", admin)).status_code == 403


async def test_own_password_change_needs_the_old_one(cloud: Cloud) -> None:
    token = await cloud.token("demo")
    me = (await cloud.identity.validator.validate(token)).user_id
    wrong = {"user": {"password": "new", "original_password": "wrong"}}
    assert (await cloud.ask("POST", f"/v3/users/{me}/password", token, json=wrong)).status_code == 401
    right = {"user": {"password": "new", "original_password": cloud.passwords["demo"]}}
    assert (await cloud.ask("POST", f"/v3/users/{me}/password", token, json=right)).status_code == 204
    assert (await cloud.ask("GET", "/v3/auth/projects", token)).status_code == 401
    assert await cloud.token("demo", password="new")
    assert (await cloud.log_in(by_password("demo", cloud.passwords["demo"]))).status_code == 401


async def test_the_catalog_can_grow_but_not_lie_about_what_is_configured(cloud: Cloud, admin: str) -> None:
    service = await cloud.make(admin, "/v3/services", "service", type="dns", name="designate")
    endpoint = await cloud.make(
        admin, "/v3/endpoints", "endpoint", service_id=service["id"], interface="public", region_id="RegionOne",
        url="http://dns/v2/$(project_id)s",
    )  # fmt: skip
    token = (await cloud.log_in(by_password("demo", cloud.passwords["demo"]))).json()["token"]
    (dns,) = (each for each in token["catalog"] if each["type"] == "dns")
    assert dns["endpoints"][0]["url"] == f"http://dns/v2/{token['project']['id']}"
    bad = {"endpoint": {**endpoint, "url": "http://x/%(secret)s"}}
    assert (await cloud.ask("PATCH", f"/v3/endpoints/{endpoint['id']}", admin, json=bad)).status_code == 400
    services = (await cloud.ask("GET", "/v3/services?type=compute", admin)).json()["services"]
    assert (await cloud.ask("DELETE", f"/v3/services/{services[0]['id']}", admin)).status_code == 403
    assert (await cloud.ask("DELETE", "/v3/regions/RegionOne", admin)).status_code == 403
    assert (await cloud.ask("DELETE", f"/v3/services/{service['id']}", admin)).status_code == 204
    assert (await cloud.ask("GET", f"/v3/endpoints/{endpoint['id']}", admin)).status_code == 404


async def test_limits(cloud: Cloud, admin: str) -> None:
    service = (await cloud.ask("GET", "/v3/services?type=compute", admin)).json()["services"][0]["id"]
    wanted = {"service_id": service, "resource_name": "servers", "default_limit": 10}
    path = "/v3/registered_limits"
    made = (await cloud.ask("POST", path, admin, json={"registered_limits": [wanted]})).json()["registered_limits"]
    assert made[0]["default_limit"] == 10
    assert (await cloud.ask("POST", path, admin, json={"registered_limits": [wanted]})).status_code == 409
    demo = await cloud.token("demo")
    project = (await cloud.identity.validator.validate(demo)).project_id
    limit = {"service_id": service, "resource_name": "servers", "resource_limit": 3, "project_id": project}
    created = (await cloud.ask("POST", "/v3/limits", admin, json={"limits": [limit]})).json()["limits"][0]
    assert (await cloud.ask("GET", "/v3/limits", demo)).json()["limits"] == [created]
    other = {**limit, "project_id": (await cloud.identity.validator.validate(admin)).project_id}
    await cloud.ask("POST", "/v3/limits", admin, json={"limits": [other]})
    assert (await cloud.ask("GET", "/v3/limits", demo)).json()["limits"] == [created]
    assert (await cloud.ask("DELETE", f"{path}/{made[0]['id']}", admin)).status_code == 403
    assert (await cloud.ask("POST", "/v3/limits", demo, json={"limits": [limit]})).status_code == 403
    assert (await cloud.ask("GET", "/v3/limits/model", demo)).json()["model"]["name"] == "flat"
