"""What is taken away is gone at once, in every process; and processes never undo each other's changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from identity_cloud import ADMIN, Cloud, opened

from kilonova.db.open import Databases
from kilonova.http.errors import Unauthorized, Unavailable
from kilonova.identity import directory as directory_module
from kilonova.identity.directory import STALE_S, Directory
from kilonova.identity.records import Project, new_id
from kilonova.identity.service import Identity
from kilonova.model.credentials import Credentials


@dataclass
class Victim:
    """A user with a token, and the admin who will take it away."""

    cloud: Cloud
    admin: str
    user: str
    project: str
    domain: str
    group: str
    role: str
    token: str


@pytest.fixture
async def victim(cloud: Cloud) -> Victim:
    admin = await cloud.token("admin", ADMIN)
    domain = await cloud.make(admin, "/v3/domains", "domain", name="d")
    user = await cloud.make(admin, "/v3/users", "user", name="v", domain_id=domain["id"], password="secret")
    group = await cloud.make(admin, "/v3/groups", "group", name="g", domain_id=domain["id"])
    project = await cloud.make(admin, "/v3/projects", "project", name="p", domain_id=domain["id"])
    role = await cloud.make(admin, "/v3/roles", "role", name="worker")
    grant = f"/v3/projects/{project['id']}/groups/{group['id']}/roles/{role['id']}"
    assert (await cloud.ask("PUT", grant, admin)).status_code == 204
    assert (await cloud.ask("PUT", f"/v3/groups/{group['id']}/users/{user['id']}", admin)).status_code == 204
    auth = {"methods": ["password"], "password": {"user": {"id": user["id"], "password": "secret"}}}
    token = (await cloud.log_in(auth, {"project": {"id": project["id"]}})).headers["x-subject-token"]
    return Victim(cloud, admin, user["id"], project["id"], domain["id"], group["id"], role["id"], token)


@pytest.fixture
async def elsewhere(databases: Databases, tmp_path: Path, victim: Victim) -> AsyncIterator[Identity]:
    """Another process: the same database and keys, a memory of its own, which it keeps fresh itself."""
    async with opened(databases, tmp_path) as other:
        assert not other.passwords, "only the first start makes passwords"
        task = asyncio.create_task(other.identity.run())
        yield other.identity
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


BLOWS: dict[str, tuple[str, str, Any]] = {
    "user disabled": ("PATCH", "/v3/users/{user}", {"user": {"enabled": False}}),
    "user deleted": ("DELETE", "/v3/users/{user}", None),
    "password set": ("PATCH", "/v3/users/{user}", {"user": {"password": "other"}}),
    "password changed": (
        "POST", "/v3/users/{user}/password", {"user": {"password": "other", "original_password": "secret"}}
    ),
    "project disabled": ("PATCH", "/v3/projects/{project}", {"project": {"enabled": False}}),
    "project deleted": ("DELETE", "/v3/projects/{project}", None),
    "domain disabled": ("PATCH", "/v3/domains/{domain}", {"domain": {"enabled": False}}),
    "role revoked": ("DELETE", "/v3/projects/{project}/groups/{group}/roles/{role}", None),
    "role deleted": ("DELETE", "/v3/roles/{role}", None),
    "left the group": ("DELETE", "/v3/groups/{group}/users/{user}", None),
    "group deleted": ("DELETE", "/v3/groups/{group}", None),
    "token revoked": ("DELETE", "/v3/auth/tokens", None),
}  # fmt: skip


@pytest.mark.parametrize("blow", BLOWS)
async def test_it_acts_here_at_once_and_elsewhere_within_a_second(
    victim: Victim, elsewhere: Identity, blow: str
) -> None:
    method, path, body = BLOWS[blow]
    assert (await victim.cloud.identity.validator.validate(victim.token)).roles == {"worker"}
    assert (await elsewhere.validator.validate(victim.token)).roles == {"worker"}
    ids = {"user": victim.user, "project": victim.project, "domain": victim.domain, "group": victim.group}
    response = await victim.cloud.ask(
        method, path.format(**ids, role=victim.role), victim.admin, json=body,
        headers={"x-subject-token": victim.token},
    )  # fmt: skip
    assert response.status_code in (200, 204), response.text
    with pytest.raises(Unauthorized):
        await victim.cloud.identity.validator.validate(victim.token)
    assert (await victim.cloud.ask("GET", "/v3/auth/projects", victim.token)).status_code == 401
    async with asyncio.timeout(1.0):
        while await still_counts(elsewhere, victim.token):  # noqa: ASYNC110  stands for another process
            await asyncio.sleep(0.01)


async def still_counts(identity: Identity, token: str) -> Credentials | None:
    try:
        return await identity.validator.validate(token)
    except Unauthorized:
        return None


async def test_disabling_and_enabling_again_does_not_revive_a_token(victim: Victim) -> None:
    path = f"/v3/users/{victim.user}"
    for enabled in (False, True):
        response = await victim.cloud.ask("PATCH", path, victim.admin, json={"user": {"enabled": enabled}})
        assert response.status_code == 200
    assert await still_counts(victim.cloud.identity, victim.token) is None


async def test_without_a_look_in_time_nothing_is_answered(victim: Victim, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that does not answer makes tokens 503 within a second, not valid for ever."""
    identity = victim.cloud.identity
    await identity.validator.validate(victim.token)

    async def away(db: object) -> tuple[int, int]:
        raise directory_module.DatabaseError("away")

    monkeypatch.setattr(directory_module.queries, "version", away)
    identity.directory.fresh_at -= STALE_S
    with pytest.raises(Unavailable):
        await identity.validator.validate(victim.token)


async def test_two_processes_make_the_same_name_once(databases: Databases, tmp_path: Path) -> None:
    async with opened(databases, tmp_path) as one, opened(databases, tmp_path) as two:
        clouds = (one, two)
        admin = await one.token("admin", ADMIN)
        await two.identity.directory.refresh()
        for name in (f"p{i}" for i in range(10)):
            body = {"project": {"name": name}}
            answers = await asyncio.gather(*(c.ask("POST", "/v3/projects", admin, json=body) for c in clouds * 3))
            assert sorted(each.status_code for each in answers) == [201] + [409] * 5
        for each in clouds:
            await each.identity.directory.refresh()
        listed = [(await each.ask("GET", "/v3/projects", admin)).json()["projects"] for each in clouds]
        assert listed[0] == listed[1] and len(listed[0]) == 13


async def test_many_first_starts_at_once_make_one_admin(databases: Databases, tmp_path: Path) -> None:
    async with opened(databases, tmp_path / "a") as one:
        from kilonova.identity.bootstrap import bootstrap

        assert await asyncio.gather(*(bootstrap(one.identity) for _ in range(3))) == [{}, {}, {}]
        renewed = await bootstrap(one.identity, renew=True)
        assert renewed.keys() == one.passwords.keys()
        one.passwords = renewed
        assert await one.token("admin", ADMIN)


async def test_who_slept_through_a_trim_reads_everything_again(databases: Databases) -> None:
    awake, asleep = Directory(databases.global_), Directory(databases.global_)
    await awake.start()
    projects = [Project(id=new_id(), name=f"p{i}", domain_id="default", parent_id="default") for i in range(4)]
    for each in projects:
        await awake.change(lambda state, edit, each=each: edit.put(each))
    await asleep.start()
    for each in projects[:3]:
        await awake.change(lambda state, edit, each=each: edit.delete(each))
    awake.clock = lambda: directory_module.now_us() + 2 * 3600 * 1_000_000
    await awake.trim()
    await asleep.refresh()
    assert asleep.state.values(Project) == awake.state.values(Project) == projects[3:]
    await asleep.change(lambda state, edit: edit.delete(projects[3]))
    await awake.refresh()
    assert awake.state.values(Project) == [] and awake.state.version == asleep.state.version == 8
