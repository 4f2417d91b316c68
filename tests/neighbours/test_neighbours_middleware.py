"""keystonemiddleware, which stands before every OpenStack service, against our identity API and a real Keystone.

Both hold the same people; what the middleware tells the service behind it must be the same but for ids.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import real_environment
import yaml
from kilonova_cloud import Up
from real_services import Keystone

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
HERE = Path(__file__).parent
PASSWORD = "a-password-for-both"
EVERYWHERE = {"system": {"all": True}}
DOMAIN = {"domain": {"id": "default"}}
_IDS = ("_ID", "TOKEN", "CATALOG", "HTTP_X_USER", "HTTP_X_TENANT")


class Side:
    """One identity API with its admin."""

    def __init__(self, url: str, password: str) -> None:
        self.url, self._password = url, password
        self.admin = self.token("admin", on("admin"), password)

    def log_in(self, identity: dict[str, Any], scope: Any = None) -> httpx2.Response:
        auth: dict[str, Any] = {"identity": identity, **({"scope": scope} if scope else {})}
        return httpx2.post(f"{self.url}/auth/tokens", json={"auth": auth}, timeout=30)

    def token(self, name: str, scope: Any = None, password: str = PASSWORD) -> str:
        user = {"name": name, "domain": {"id": "default"}, "password": password}
        got = self.log_in({"methods": ["password"], "password": {"user": user}}, scope)
        assert got.status_code == 201, got.text
        return str(got.headers["x-subject-token"])

    def ask(self, method: str, path: str, body: Any = None, token: str = "", **headers: str) -> Any:
        got = httpx2.request(
            method, self.url + path, json=body, headers={"x-auth-token": token or self.admin, **headers}, timeout=30
        )
        assert got.status_code < 300, f"{method} {path}: {got.text}"
        return got.json() if got.content else None

    def one(self, kind: str, name: str, **more: Any) -> str:
        """The id of a user, project or role; made if it is missing."""
        found = self.ask("GET", f"/{kind}s?name={name}")[f"{kind}s"]
        if not found:
            found = [self.ask("POST", f"/{kind}s", {kind: {"name": name, **more}})[kind]]
        return str(found[0]["id"])

    def people(self) -> None:
        """tester: member of its project, on domain and system too; helper: service on project service."""
        home = self.one("project", "testing", domain_id="default")
        service = self.one("project", "service", domain_id="default")
        tester = self.one("user", "tester", domain_id="default", password=PASSWORD)
        helper = self.one("user", "helper", domain_id="default", password=PASSWORD)
        member, admin, role = (self.one("role", name) for name in ("member", "admin", "service"))
        self.ask("PUT", f"/projects/{home}/users/{tester}/roles/{member}")
        self.ask("PUT", f"/domains/default/users/{tester}/roles/{member}")
        self.ask("PUT", f"/system/users/{tester}/roles/{member}")
        for each in (admin, role):
            self.ask("PUT", f"/projects/{service}/users/{helper}/roles/{each}")

    def tokens(self) -> dict[str, str]:
        """Of every kind that services meet."""
        user = self.one("user", "tester")
        made = {
            "project": self.token("tester", on("testing")), "domain": self.token("tester", DOMAIN),
            "system": self.token("tester", EVERYWHERE), "unscoped": self.token("tester", "unscoped"),
        }  # fmt: skip
        for name, more in (("whole", {}), ("reader", {"roles": [{"name": "reader"}]})):
            path = f"/users/{user}/application_credentials"
            body = {"application_credential": {"name": name, **more}}
            credential = self.ask("POST", path, body, made["project"])["application_credential"]
            proof = {"id": credential["id"], "secret": credential["secret"]}
            got = self.log_in({"methods": ["application_credential"], "application_credential": proof})
            assert got.status_code == 201, got.text
            made[f"credential-{name}"] = got.headers["x-subject-token"]
        rescoped = self.log_in({"methods": ["token"], "token": {"id": made["unscoped"]}}, on("testing"))
        assert rescoped.status_code == 201, rescoped.text
        made["rescoped"] = rescoped.headers["x-subject-token"]
        return made

    def judged(self, requests: list[dict[str, str]], **more: str) -> list[dict[str, Any]]:
        """What the middleware says to these requests."""
        conf = {
            "auth_url": self.url, "www_authenticate_uri": self.url, "auth_type": "password", "username": "helper",
            "password": PASSWORD, "user_domain_name": "Default", "project_name": "service",
            "project_domain_name": "Default", "interface": "public", "token_cache_time": "-1",
            "service_token_roles": "service", "service_token_roles_required": "true", **more,
        }  # fmt: skip
        done = subprocess.run(
            [real_environment.python(), HERE / "middleware_probe.py"], check=False, timeout=90,
            input=json.dumps({"conf": conf, "requests": requests}), capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        found: list[dict[str, Any]] = json.loads(done.stdout)
        return found


def on(project: str) -> dict[str, Any]:
    return {"project": {"name": project, "domain": {"id": "default"}}}


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Side]:
    cloud = Up(tmp_path_factory.mktemp("embedded"), "")
    try:
        cloud.start()
        clouds = yaml.safe_load((cloud.folder / "clouds.yaml").read_text())["clouds"]
        side = Side(f"{cloud.url}/identity/v3", clouds["kilonova-admin"]["auth"]["password"])
        side.people()
        yield side
    finally:
        cloud.stop()


@pytest.fixture(scope="module")
def theirs(keystone: Keystone) -> Side:
    side = Side(keystone.url, keystone.password)
    side.people()
    return side


def plain(seen: dict[str, str]) -> dict[str, Any]:
    """Without what differs between any two Keystones; roles in one order."""
    kept: dict[str, Any] = {name: value for name, value in seen.items() if not name.endswith(_IDS)}
    for name in ("HTTP_X_ROLES", "HTTP_X_ROLE", "HTTP_X_SERVICE_ROLES"):
        if name in kept:
            kept[name] = sorted(kept[name].split(","))
    return {**kept, "named": sorted(seen)}


def test_every_kind_of_token_is_seen_alike(ours: Side, theirs: Side) -> None:
    seen = []
    for side in (theirs, ours):
        tokens = side.tokens()
        helper = side.token("helper", on("service"))
        requests = [{"X-Auth-Token": token} for token in tokens.values()]
        requests += [
            {"X-Auth-Token": tokens["project"], "X-Service-Token": helper},
            {"X-Auth-Token": tokens["project"], "X-Service-Token": tokens["project"]},
            {"X-Auth-Token": "gAAAAA"}, {"X-Auth-Token": "x" * 300}, {}, {"X-Auth-Token": tokens["project"][:-3]},
        ]  # fmt: skip
        names = [*tokens, "with-service", "with-no-service", "nonsense", "long", "none", "cut"]
        seen.append(dict(zip(names, side.judged(requests), strict=True)))
    real, made = seen
    assert {name: each["status"] for name, each in made.items()} == {name: e["status"] for name, e in real.items()}
    for name, each in real.items():
        assert plain(made[name]["seen"]) == plain(each["seen"]), name


def test_revoked_disabled_and_expired(ours: Side, theirs: Side) -> None:
    for side in (theirs, ours):
        helper = side.token("helper", on("service"))
        token = side.token("tester", on("testing"))
        side.ask("DELETE", "/auth/tokens", token=token, **{"x-subject-token": token})
        user = side.one("user", "leaver", domain_id="default", password=PASSWORD)
        home, member = side.one("project", "testing"), side.one("role", "member")
        side.ask("PUT", f"/projects/{home}/users/{user}/roles/{member}")
        leaver = side.token("leaver", on("testing"))
        side.ask("PATCH", f"/users/{user}", {"user": {"enabled": False}})
        both = {"X-Auth-Token": token, "X-Service-Token": helper}
        answers = side.judged([{"X-Auth-Token": token}, both, {"X-Auth-Token": leaver}])
        assert [each["status"] for each in answers] == [401, 401, 401], side.url
        assert answers[0]["headers"]["WWW-Authenticate"] == f'Keystone uri="{side.url}"'
