"""`kilonova up` with the sim driver and a configuration file, and clients of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import real_environment
from real_services import Child, free_port, until

ROOT = Path(__file__).parents[2]


class Up:
    """One cloud in one process; `settings` is the text of its configuration file."""

    def __init__(self, folder: Path, settings: str, *words: str) -> None:
        self.folder, self.port = folder, free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.child = Child(folder / "up.log")
        self._words = words or ("--driver", "sim", "--sim-hosts", "2")
        self.config = folder / "nova.conf"
        self.config.write_text(settings)

    def start(self, seconds: float = 30) -> None:
        state = self.folder / "state.json"
        state.unlink(missing_ok=True)
        words = ["up", "--dir", str(self.folder), "--port", str(self.port), "--config", str(self.config), *self._words]
        self.child.launch([sys.executable, "-m", "kilonova", *words], PYTHONPATH=str(ROOT / "src"))
        until(lambda: state.exists() or self._dead(), seconds, "the cloud")

    def _dead(self) -> bool:
        assert self.child.alive, self.child.said()
        return False

    def stop(self) -> None:
        self.child.stop()

    def log(self) -> str:
        return (self.folder / "kilonova.log").read_text()

    def ask(self, method: str, path: str, token: str, body: Any = None, **headers: str) -> httpx2.Response:
        """One request; never a 500."""
        got = httpx2.request(
            method, self.url + path, json=body, headers={"x-auth-token": token, **headers}, timeout=30
        )
        assert got.status_code not in (500, 502), got.text
        return got

    def create(self, token: str, name: str, image: str, network: str) -> httpx2.Response:
        wanted = {"name": name, "imageRef": image, "flavorRef": "1", "networks": [{"uuid": network}]}
        version = {"x-openstack-nova-api-version": "2.90"}
        return self.ask("POST", "/compute/v2.1/servers", token, {"server": wanted}, **version)

    def network(self, token: str) -> str:
        """The id of the network `private`, once it is made."""

        def find() -> str:
            found = self.ask("GET", "/network/v2.0/networks?name=private", token).json()["networks"]
            return str(found[0]["id"]) if found else ""

        return str(until(find, 10, "the network private"))

    def status(self, token: str, server: str) -> str:
        """The server's status, or its absence as GONE."""
        got = self.ask("GET", f"/compute/v2.1/servers/{server}", token)
        return "GONE" if got.status_code == 404 else str(got.json()["server"]["status"])

    def settles(self, token: str, server: str, wanted: str, seconds: float = 20) -> None:
        until(lambda: self.status(token, server) in (wanted, "ERROR"), seconds, wanted)
        assert self.status(token, server) == wanted, self.ask("GET", f"/compute/v2.1/servers/{server}", token).text


def openstack(words: str, environment: dict[str, str], *, code: int = 0) -> Any:
    """The official client; its JSON."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OS_")}
    command = [str(real_environment.client()), "-I", str(real_environment.client().parent / "openstack")]
    done = subprocess.run(
        [*command, *words.split()], env={**kept, **environment}, capture_output=True, text=True, check=False, timeout=90
    )
    assert done.returncode == code, f"openstack {words}: {done.returncode}\n{done.stdout}{done.stderr}"
    try:
        return json.loads(done.stdout)
    except ValueError:
        return done.stdout + done.stderr


def account(keystone: str, user: str, password: str, project: str) -> dict[str, str]:
    """The variables of an account, as an openrc sets them."""
    return {
        "OS_AUTH_URL": keystone, "OS_USERNAME": user, "OS_PASSWORD": password, "OS_PROJECT_NAME": project,
        "OS_USER_DOMAIN_ID": "default", "OS_PROJECT_DOMAIN_ID": "default", "OS_REGION_NAME": "RegionOne",
        "OS_IDENTITY_API_VERSION": "3",
    }  # fmt: skip
