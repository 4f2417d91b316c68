"""A real Keystone and a real Glance on SQLite, as child processes on loopback, ended with the test session."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import real_environment

HERE = Path(__file__).parent
START_S = 60.0

KEYSTONE = """
[database]
connection = sqlite:///{folder}/keystone.db
[fernet_tokens]
key_repository = {folder}/fernet-keys
[fernet_receipts]
key_repository = {folder}/fernet-keys
[credential]
key_repository = {folder}/credential-keys
[cache]
enabled = false
[identity]
password_hash_algorithm = bcrypt
password_hash_rounds = 4
"""
GLANCE = """
[DEFAULT]
enabled_backends = disk:file
enabled_import_methods = []
worker_self_reference_url = {url}
[glance_store]
default_backend = disk
[disk]
filesystem_store_datadir = {folder}/images
[os_glance_staging_store]
filesystem_store_datadir = {folder}/staging
[os_glance_tasks_store]
filesystem_store_datadir = {folder}/tasks
[database]
connection = sqlite:///{folder}/glance.db
[paste_deploy]
flavor = keystone
[keystone_authtoken]
www_authenticate_uri = {keystone}
auth_url = {keystone}
auth_type = password
username = {user}
password = {password}
user_domain_name = Default
project_name = service
project_domain_name = Default
interface = public
"""


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(said: Callable[[], Any], seconds: float, what: str = "it") -> Any:
    """Ask until there is a true answer. AssertionError after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        answer = said()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"{what} did not come in {seconds} s"
        time.sleep(0.05)


class Child:
    """A process of ours with its output in a file."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self._child: subprocess.Popen[bytes] | None = None

    def launch(self, words: list[str], **environment: str) -> None:
        assert self._child is None
        with self.log.open("ab") as out:
            self._child = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env={**os.environ, **environment}
            )

    @property
    def alive(self) -> bool:
        return self._child is not None and self._child.poll() is None

    def said(self) -> str:
        return self.log.read_text(errors="replace")[-4000:]

    def stop(self) -> None:
        if self._child is None:
            return
        self._child.terminate()
        try:
            self._child.wait(10)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._child = None


class Keystone:
    """`prepare` once, `start` and `stop` as often as wanted."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.url = f"http://127.0.0.1:{self.port}/v3"
        self.password = secrets.token_urlsafe(16)
        self.child = Child(folder / "keystone.log")
        self.projects: dict[str, str] = {}
        self.users: dict[str, str] = {}

    def prepare(self) -> None:
        config = self.folder / "keystone.conf"
        config.write_text(KEYSTONE.format(folder=self.folder))
        for name in ("fernet-keys", "credential-keys"):
            (self.folder / name).mkdir(mode=0o700)
        done = subprocess.run(
            [real_environment.python(), HERE / "keystone_setup.py", config, self.url], input=f"{self.password}\n",
            capture_output=True, text=True, check=False, timeout=START_S,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]

    def start(self) -> None:
        python = str(real_environment.python())
        words = [python, str(HERE / "wsgi_process.py"), "keystone.wsgi.api", str(self.port)]
        self.child.launch(words, OS_KEYSTONE_CONFIG_DIR=str(self.folder))
        until(lambda: answers(self.url, self.child), START_S, "Keystone")

    def stop(self) -> None:
        self.child.stop()

    # as its admin

    def token(self, user: str = "admin", project: str = "admin", password: str | None = None) -> str:
        proof = {"name": user, "domain": {"id": "default"}, "password": password or self.password}
        auth: dict[str, Any] = {"identity": {"methods": ["password"], "password": {"user": proof}}}
        auth["scope"] = {"project": {"name": project, "domain": {"id": "default"}}}
        got = httpx2.post(f"{self.url}/auth/tokens", json={"auth": auth}, timeout=20)
        assert got.status_code == 201, got.text
        return got.headers["x-subject-token"]

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """One request as its admin; the answer's body."""
        got = httpx2.request(
            method, f"{self.url}{path}", json=body, headers={"x-auth-token": self._admin()}, timeout=20
        )
        assert got.status_code < 300, f"{method} {path}: {got.status_code} {got.text}"
        return got.json() if got.content else None

    def _admin(self) -> str:
        if not getattr(self, "_token", None):
            self._token = self.token()
        return self._token

    def user(self, name: str, project: str, *roles: str) -> None:
        """A user with the password of all, roles on a project; what is missing is made."""
        if project not in self.projects:
            made = self.ask("POST", "/projects", {"project": {"name": project, "domain_id": "default"}})
            self.projects[project] = made["project"]["id"]
        made = self.ask(
            "POST", "/users", {"user": {"name": name, "domain_id": "default", "password": self.password}}
        )
        self.users[name] = made["user"]["id"]
        known = {each["name"]: each["id"] for each in self.ask("GET", "/roles")["roles"]}
        for role in roles:
            if role not in known:
                known[role] = self.ask("POST", "/roles", {"role": {"name": role}})["role"]["id"]
            self.ask("PUT", f"/projects/{self.projects[project]}/users/{self.users[name]}/roles/{known[role]}")

    def endpoint(self, kind: str, name: str, url: str) -> None:
        """Put a service into the catalog, in place of what it had of that kind."""
        for old in self.ask("GET", f"/services?type={kind}")["services"]:
            self.ask("DELETE", f"/services/{old['id']}")
        made = self.ask("POST", "/services", {"service": {"type": kind, "name": name}})["service"]["id"]
        for interface in ("public", "internal", "admin"):
            wanted = {"service_id": made, "interface": interface, "url": url, "region_id": "RegionOne"}
            self.ask("POST", "/endpoints", {"endpoint": wanted})


class Glance:
    """A Glance that asks `keystone` (a URL) about tokens, as `user`."""

    def __init__(self, folder: Path, keystone: str, user: str, password: str) -> None:
        self.folder, self.port = folder, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.child = Child(folder / "glance.log")
        self._words = {"keystone": keystone, "user": user, "password": password}

    def keystone(self, url: str) -> None:
        """Choose the identity API later than at the beginning, but before `prepare`."""
        self._words["keystone"] = url

    def prepare(self) -> None:
        config = self.folder / "glance-api.conf"
        config.write_text(GLANCE.format(folder=self.folder, url=self.url, **self._words))
        python = real_environment.python()
        shutil.copy(python.parents[1] / "etc" / "glance" / "glance-api-paste.ini", self.folder)
        for name in ("images", "staging", "tasks"):
            (self.folder / name).mkdir()
        done = subprocess.run(
            [python.parent / "glance-manage", "--config-file", config, "db_sync"],
            capture_output=True, text=True, check=False, timeout=START_S,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]

    def start(self) -> None:
        python = str(real_environment.python())
        words = [python, str(HERE / "wsgi_process.py"), "glance.wsgi.api", str(self.port)]
        self.child.launch(words, OS_GLANCE_CONFIG_DIR=str(self.folder))
        until(lambda: answers(f"{self.url}/", self.child), START_S, "Glance")

    def stop(self) -> None:
        self.child.stop()


def answers(url: str, child: Child) -> bool:
    """Whether something with HTTP is there. AssertionError when the process has ended instead."""
    assert child.alive, child.said()
    try:
        return httpx2.get(url, timeout=10).status_code < 500
    except httpx2.TransportError:
        return False
