"""Application credentials and EC2 keys."""

from __future__ import annotations

from typing import Any

import pytest
from identity_cloud import ADMIN, DEMO, SYSTEM, Cloud, by_token

from kilonova.db.queries import identity as queries
from kilonova.http.errors import Unauthorized


def by_appcred(made: dict[str, Any]) -> dict[str, Any]:
    return {
        "methods": ["application_credential"],
        "application_credential": {"id": made["id"], "secret": made["secret"]},
    }


async def user_of(cloud: Cloud, token: str) -> str:
    return (await cloud.identity.validator.validate(token)).user_id


async def test_an_application_credential_logs_in_to_its_project_with_its_roles(cloud: Cloud) -> None:
    demo = await cloud.token("demo")
    path = f"/v3/users/{await user_of(cloud, demo)}/application_credentials"
    made = await cloud.make(demo, path, "application_credential", name="ci", roles=[{"name": "reader"}])
    assert len(made["secret"]) > 40 and made["unrestricted"] is False
    response = await cloud.log_in(by_appcred(made))
    assert response.status_code == 201
    token = response.json()["token"]
    assert [each["name"] for each in token["roles"]] == ["reader"]
    assert token["project"]["name"] == "demo" and token["methods"] == ["application_credential"]
    assert token["application_credential"] == {"id": made["id"], "name": "ci", "restricted": True}
    shown = (await cloud.ask("GET", f"{path}/{made['id']}", demo)).json()["application_credential"]
    assert "secret" not in shown
    named = {"name": "ci", "secret": made["secret"], "user": {"name": "demo", "domain": {"id": "default"}}}
    by_name = {"methods": ["application_credential"], "application_credential": named}
    assert (await cloud.log_in(by_name)).status_code == 201
    assert (await cloud.log_in(by_appcred({**made, "secret": "wrong"}))).status_code == 401
    assert (await cloud.log_in(by_appcred(made), DEMO)).status_code == 401


async def test_a_chosen_secret(cloud: Cloud) -> None:
    demo = await cloud.token("demo")
    path = f"/v3/users/{await user_of(cloud, demo)}/application_credentials"
    made = await cloud.make(demo, path, "application_credential", name="ci", secret="my own")
    assert made["secret"] == "my own"
    assert (await cloud.log_in(by_appcred(made))).status_code == 201


async def test_an_application_credential_cannot_grow(cloud: Cloud) -> None:
    demo, admin = await cloud.token("demo"), await cloud.token("admin", ADMIN)
    me = await user_of(cloud, demo)
    path = f"/v3/users/{me}/application_credentials"
    ask = {"application_credential": {"name": "x", "roles": [{"name": "admin"}]}}
    assert (await cloud.ask("POST", path, demo, json=ask)).status_code == 400
    assert (await cloud.ask("POST", path, admin, json={"application_credential": {"name": "x"}})).status_code == 403
    made = await cloud.make(demo, path, "application_credential", name="ci")
    token = (await cloud.log_in(by_appcred(made))).headers["x-subject-token"]
    assert (await cloud.ask("POST", path, token, json={"application_credential": {"name": "y"}})).status_code == 403
    assert (await cloud.ask("DELETE", f"{path}/{made['id']}", token)).status_code == 403
    project = (await cloud.identity.validator.validate(token)).project_id
    ec2 = {"tenant_id": project}
    assert (await cloud.ask("POST", f"/v3/users/{me}/credentials/OS-EC2", token, json=ec2)).status_code == 403
    for scope in (None, "unscoped", SYSTEM, {"project": {"id": project}}):
        assert (await cloud.log_in(by_token(token), scope)).status_code == 403
    rules = {"application_credential": {"name": "z", "access_rules": [{"path": "/", "method": "GET", "service": "x"}]}}
    assert (await cloud.ask("POST", path, demo, json=rules)).status_code == 501


async def test_an_application_credential_ends_with_its_user_its_role_or_its_time(cloud: Cloud) -> None:
    admin, demo = await cloud.token("admin", ADMIN), await cloud.token("demo")
    me = await user_of(cloud, demo)
    path = f"/v3/users/{me}/application_credentials"
    made = await cloud.make(demo, path, "application_credential", name="ci", expires_at="2999-01-01T00:00:00")
    token = (await cloud.log_in(by_appcred(made))).headers["x-subject-token"]
    project = (await cloud.identity.validator.validate(token)).project_id
    grant = f"/v3/projects/{project}/users/{me}/roles/{await cloud.role(admin, 'member')}"
    assert (await cloud.ask("DELETE", grant, admin)).status_code == 204
    with pytest.raises(Unauthorized):
        await cloud.identity.validator.validate(token)
    assert (await cloud.log_in(by_appcred(made))).status_code == 401
    assert (await cloud.ask("PUT", grant, admin)).status_code == 204
    token = (await cloud.log_in(by_appcred(made))).headers["x-subject-token"]
    assert (await cloud.ask("DELETE", f"{path}/{made['id']}", admin)).status_code == 204
    with pytest.raises(Unauthorized):
        await cloud.identity.validator.validate(token)
    past = {"application_credential": {"name": "x", "expires_at": "2001-01-01T00:00:00"}}
    assert (await cloud.ask("POST", path, await cloud.token("demo"), json=past)).status_code == 400


async def test_ec2_keys_are_their_users_and_sealed(cloud: Cloud) -> None:
    admin, demo = await cloud.token("admin", ADMIN), await cloud.token("demo")
    creds = await cloud.identity.validator.validate(demo)
    path = f"/v3/users/{creds.user_id}/credentials/OS-EC2"
    made = (await cloud.ask("POST", path, demo, json={"tenant_id": creds.project_id})).json()["credential"]
    assert made["user_id"] == creds.user_id and made["tenant_id"] == creds.project_id
    assert (await cloud.ask("GET", f"{path}/{made['access']}", demo)).json()["credential"] == made
    assert (await cloud.ask("GET", path, demo)).json()["credentials"] == [made]
    stored = await queries.after(cloud.identity.directory.db, 0, list)
    assert not any(made["secret"] in body for *_, body in stored)
    other = await cloud.make(admin, "/v3/users", "user", name="o", password="secret")
    stranger = await cloud.token("o", "unscoped", "secret")
    assert (await cloud.ask("GET", path, stranger)).status_code == 403
    assert (await cloud.ask("GET", f"{path}/{made['access']}", stranger)).status_code == 403
    own = f"/v3/users/{other['id']}/credentials/OS-EC2"
    foreign = {"tenant_id": creds.project_id}
    assert (await cloud.ask("POST", own, stranger, json=foreign)).status_code == 403
    assert (await cloud.ask("GET", "/v3/credentials", stranger)).json()["credentials"] == []
    (listed,) = (await cloud.ask("GET", "/v3/credentials?type=ec2", demo)).json()["credentials"]
    changed = {"credential": {"user_id": other["id"]}}
    assert (await cloud.ask("PATCH", f"/v3/credentials/{listed['id']}", demo, json=changed)).status_code == 403
    assert (await cloud.ask("DELETE", f"{path}/{made['access']}", demo)).status_code == 204
    assert (await cloud.ask("GET", path, demo)).json()["credentials"] == []


async def test_credentials_outlive_a_new_key(cloud: Cloud) -> None:
    demo = await cloud.token("demo")
    made = await cloud.make(demo, "/v3/credentials", "credential", type="cert", blob="secret")
    cloud.identity.seal.keys.rotate()
    shown = (await cloud.ask("GET", f"/v3/credentials/{made['id']}", demo)).json()["credential"]
    assert shown["blob"] == "secret"
    changed = {"credential": {"blob": "other"}}
    shown = (await cloud.ask("PATCH", f"/v3/credentials/{made['id']}", demo, json=changed)).json()["credential"]
    assert shown["blob"] == "other"
    assert (await cloud.ask("DELETE", f"/v3/credentials/{made['id']}", demo)).status_code == 204
