"""Log-in, validation, scopes and the end of tokens, over HTTP."""

from __future__ import annotations

import pytest
from identity_cloud import ADMIN, DEMO, SYSTEM, URL, Cloud, by_password, by_token

from kilonova.http.errors import Unauthorized
from kilonova.identity.own_token import OwnToken


async def test_version_documents(cloud: Cloud) -> None:
    many = await cloud.ask("GET", "")
    assert many.status_code == 300
    (version,) = many.json()["versions"]["values"]
    assert version["id"].startswith("v3.") and version["status"] == "stable"
    assert version["links"] == [{"rel": "self", "href": f"{URL}/identity/v3/"}]
    one = await cloud.ask("GET", "/v3/")
    assert one.status_code == 200 and one.json()["version"] == version


async def test_a_project_token_says_who_where_and_what(cloud: Cloud) -> None:
    response = await cloud.log_in(by_password("admin", cloud.passwords["admin"]), ADMIN)
    assert response.status_code == 201
    token = response.json()["token"]
    assert token["methods"] == ["password"]
    assert token["user"]["name"] == "admin" and token["user"]["domain"] == {"id": "default", "name": "Default"}
    assert token["project"]["name"] == "admin"
    assert [role["name"] for role in token["roles"]] == ["admin", "manager", "member", "reader"]
    types = {each["type"]: each["endpoints"] for each in token["catalog"]}
    assert set(types) == {
        "identity", "compute", "image", "network", "volumev3", "block-storage", "placement"
    }  # fmt: skip
    assert {each["interface"] for each in types["compute"]} == {"public", "internal", "admin"}
    assert {each["region"] for each in types["compute"]} == {"RegionOne"}
    assert types["compute"][0]["url"] == f"{URL}/compute/v2.1"
    assert types["volumev3"][0]["url"] == f"{URL}/volume/v3/{token['project']['id']}"


async def test_scopes(cloud: Cloud) -> None:
    admin = await cloud.token("admin", SYSTEM)
    shown = await cloud.ask("GET", "/v3/auth/tokens", admin, headers={"x-subject-token": admin})
    assert shown.json()["token"]["system"] == {"all": True}
    assert shown.headers["x-subject-token"] == admin
    unscoped = (await cloud.log_in(by_password("demo", cloud.passwords["demo"]), "unscoped")).json()["token"]
    assert not {"project", "domain", "system", "roles", "catalog"} & unscoped.keys()
    by_default = (await cloud.log_in(by_password("demo", cloud.passwords["demo"]))).json()["token"]
    assert by_default["project"]["name"] == "demo"
    for refused in (ADMIN, SYSTEM, {"domain": {"id": "default"}}, {"project": {"id": "nope"}}):
        assert (await cloud.log_in(by_password("demo", cloud.passwords["demo"]), refused)).status_code == 401


async def test_domain_scope(cloud: Cloud) -> None:
    admin = await cloud.token("admin", ADMIN)
    demo = (await cloud.ask("GET", "/v3/users?name=demo", admin)).json()["users"][0]["id"]
    reader = await cloud.role(admin, "reader")
    assert (await cloud.ask("PUT", f"/v3/domains/default/users/{demo}/roles/{reader}", admin)).status_code == 204
    response = await cloud.log_in(by_password("demo", cloud.passwords["demo"]), {"domain": {"name": "Default"}})
    assert response.json()["token"]["domain"] == {"id": "default", "name": "Default"}


async def test_rescoping_keeps_the_end_and_the_chain(cloud: Cloud) -> None:
    first = await cloud.token("admin", ADMIN)
    old = (await cloud.ask("GET", "/v3/auth/tokens", first, headers={"x-subject-token": first})).json()["token"]
    response = await cloud.log_in(by_token(first), SYSTEM)
    new = response.json()["token"]
    assert new["expires_at"] == old["expires_at"]
    assert new["audit_ids"][1:] == old["audit_ids"] and len(new["audit_ids"]) == 2
    assert new["methods"] == ["token", "password"]


@pytest.mark.parametrize("name", ["admin", "nobody"])
async def test_a_wrong_password_is_one_answer(cloud: Cloud, name: str) -> None:
    response = await cloud.log_in(by_password(name, "wrong"), ADMIN)
    assert response.status_code == 401
    assert response.json()["error"]["message"] == "The request you have made requires authentication."
    assert response.headers["www-authenticate"].startswith("Keystone uri=")


async def test_many_wrong_passwords_are_slowed_down_and_do_not_lock_out_others(cloud: Cloud) -> None:
    statuses = [(await cloud.log_in(by_password("demo", "wrong"))).status_code for _ in range(11)]
    assert statuses == [401] * 10 + [429]
    late = await cloud.log_in(by_password("demo", cloud.passwords["demo"]))
    assert late.status_code == 429 and int(late.headers["retry-after"]) > 0
    assert await cloud.token("admin", ADMIN)


async def test_unknown_and_broken_tokens(cloud: Cloud) -> None:
    admin = await cloud.token("admin", ADMIN)
    for bad in ("", "x", "gAAAAA", admin[:-4] + "AAAA", "é" * 10, "a" * 5000):
        headers = {"x-auth-token": bad.encode()}
        response = await cloud.client.get("/identity/v3/auth/projects", headers=headers)
        assert response.status_code == 401
    missing = await cloud.ask("GET", "/v3/auth/tokens", admin, headers={"x-subject-token": "nope"})
    assert missing.status_code == 404


async def test_revoking_a_token_ends_it_at_once_and_no_other(cloud: Cloud) -> None:
    one, other = await cloud.token("demo", DEMO), await cloud.token("demo", DEMO)
    await cloud.identity.validator.validate(one)
    assert (await cloud.ask("DELETE", "/v3/auth/tokens", one, headers={"x-subject-token": one})).status_code == 204
    assert (await cloud.ask("GET", "/v3/auth/projects", one)).status_code == 401
    with pytest.raises(Unauthorized):
        await cloud.identity.validator.validate(one)
    assert (await cloud.ask("GET", "/v3/auth/projects", other)).status_code == 200


async def test_only_the_bearer_admins_and_services_validate_a_token(cloud: Cloud) -> None:
    admin, demo, nova = await cloud.token("admin", ADMIN), await cloud.token("demo"), await cloud.token("nova")
    for asker, subject, status in ((admin, demo, 200), (nova, demo, 200), (demo, demo, 200), (demo, admin, 403)):
        response = await cloud.ask("GET", "/v3/auth/tokens", asker, headers={"x-subject-token": subject})
        assert response.status_code == status
        response = await cloud.ask("HEAD", "/v3/auth/tokens", asker, headers={"x-subject-token": subject})
        assert response.status_code == status and not response.content


async def test_an_expired_token_is_refused_but_can_be_asked_about_by_services(cloud: Cloud) -> None:
    demo = await cloud.token("demo", DEMO)
    before = cloud.identity.directory.clock
    ahead = 2 * 3600 * 1_000_000
    cloud.identity.directory.clock = lambda: before() + ahead
    cloud.identity.validator._seen.clear()
    with pytest.raises(Unauthorized):
        await cloud.identity.validator.judge(demo)
    nova = await cloud.token("nova")
    headers = {"x-subject-token": demo}
    assert (await cloud.ask("GET", "/v3/auth/tokens", nova, headers=headers)).status_code == 404
    response = await cloud.ask("GET", "/v3/auth/tokens?allow_expired=1", nova, headers=headers)
    assert response.status_code == 200
    ahead = 60 * 3600 * 1_000_000
    nova = await cloud.token("nova")
    assert (await cloud.ask("GET", "/v3/auth/tokens?allow_expired=1", nova, headers=headers)).status_code == 404


async def test_what_a_bearer_can_reach(cloud: Cloud) -> None:
    demo, admin = await cloud.token("demo"), await cloud.token("admin", ADMIN)
    assert [p["name"] for p in (await cloud.ask("GET", "/v3/auth/projects", demo)).json()["projects"]] == ["demo"]
    assert (await cloud.ask("GET", "/v3/auth/domains", demo)).json()["domains"] == []
    assert (await cloud.ask("GET", "/v3/auth/system", demo)).json()["system"] == []
    assert (await cloud.ask("GET", "/v3/auth/system", admin)).json()["system"] == [{"all": True}]
    assert len((await cloud.ask("GET", "/v3/auth/catalog", demo)).json()["catalog"]) == 7


async def test_nocatalog(cloud: Cloud) -> None:
    admin = await cloud.token("admin", ADMIN)
    shown = await cloud.ask("GET", "/v3/auth/tokens?nocatalog", admin, headers={"x-subject-token": admin})
    assert "catalog" not in shown.json()["token"]


async def test_rotated_keys_still_open_older_tokens(cloud: Cloud) -> None:
    old = await cloud.token("demo")
    keys = cloud.identity.codec.keys
    keys.rotate()
    assert (await cloud.ask("GET", "/v3/auth/projects", await cloud.token("demo"))).status_code == 200
    assert (await cloud.ask("GET", "/v3/auth/projects", old)).status_code == 200
    assert {path.stat().st_mode & 0o777 for path in keys.folder.iterdir()} == {0o600}
    for _ in range(3):
        keys.rotate()
    cloud.identity.validator._seen.clear()
    assert (await cloud.ask("GET", "/v3/auth/projects", old)).status_code == 401
    assert len(keys.keys) == keys.keep


async def test_what_keystone_has_and_this_does_not_is_a_501_that_says_so(cloud: Cloud) -> None:
    for path in ("OS-FEDERATION/mappings", "OS-TRUST/trusts", "policies", "users/x/OS-OAUTH1/access_tokens"):
        response = await cloud.ask("GET", f"/v3/{path}")
        assert response.status_code == 501 and "Keystone" in response.json()["error"]["message"]
    assert (await cloud.ask("GET", "/v3/nonsense")).status_code == 404
    response = await cloud.log_in({"methods": ["totp"], "totp": {}})
    assert response.status_code == 501


async def test_a_token_of_our_own_needs_no_password(cloud: Cloud) -> None:
    own = OwnToken(cloud.identity)
    token = await own.service_token()
    assert await own.service_token() == token
    creds = await cloud.identity.validator.validate(token)
    assert creds.user_name == "nova" and {"admin", "service"} <= creds.roles
    own.forget(token)
    assert await own.service_token() != token
    with pytest.raises(LookupError):
        await OwnToken(cloud.identity, "nobody").service_token()
