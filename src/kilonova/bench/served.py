"""A cloud in a process of its own, as users run it, and what it costs: CPU seconds and memory from /proc.

The client measures from its own process, so the server's figures are the server's alone.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec

from kilonova.bench.client import Connection, Events, HttpFailure, login

_TICK = os.sysconf("SC_CLK_TCK")
_SETTINGS = """[quota]
instances = -1
cores = -1
ram = -1
"""


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ServedCloud:
    """`kilonova up` on a folder of its own; `async with` removes everything at the end."""

    command = (sys.executable, "-I", "-m", "kilonova")
    """What is started; a profiler puts itself in front."""

    def __init__(self, sim_hosts: int = 50, settings: str = "", driver: str = "sim") -> None:
        """`sim_hosts`: how many hosts there are (1 for a real driver); `settings`: more TOML."""
        self.folder = Path(tempfile.mkdtemp(prefix="kilonova-bench-"))
        self.folder.chmod(0o711)  # guests' processes pass through
        self.sim_hosts, self.driver, self.port = sim_hosts, driver, free_port()
        (self.folder / "bench.toml").write_text(_SETTINGS + settings)
        self.token = ""
        self._child: subprocess.Popen[bytes] | None = None
        self._refs: dict[str, Any] = {}
        self._connections: list[Connection] = []

    async def __aenter__(self) -> ServedCloud:
        try:
            await self.start()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
        if self.driver != "sim":
            await self.purge()
        shutil.rmtree(self.folder, ignore_errors=True)

    # the process

    @property
    def pid(self) -> int:
        assert self._child is not None
        return self._child.pid

    def launch(self) -> float:
        """Start the process; the time it was started at (perf_counter)."""
        words = [
            "up", "--dir", str(self.folder), "--driver", self.driver, "--sim-hosts", str(self.sim_hosts),
            "--port", str(self.port), "--config", str(self.folder / "bench.toml"), "--child",
        ]  # fmt: skip
        started = time.perf_counter()
        out = (self.folder / "up.out").open("wb")
        self._child = subprocess.Popen(
            [*self.command, *words], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            start_new_session=True,
        )  # fmt: skip
        out.close()
        return started

    async def start(self, seconds: float = 60.0) -> None:
        """Start it and log in; returns when every sim host can take a guest."""
        self.launch()
        await self.answers(seconds)
        self.token = await login("127.0.0.1", self.port, self.auth())
        await self._hosts_up(seconds)

    async def answers(self, seconds: float) -> None:
        """Return once a request is answered (it may wait in the socket's backlog until then)."""
        deadline = time.monotonic() + seconds
        connection = Connection("127.0.0.1", self.port)
        while True:
            try:
                await connection.send("GET", "/healthcheck")
                connection.close()
                return
            except OSError:
                await self.wait_a_moment(deadline)

    async def wait_a_moment(self, deadline: float) -> None:
        """Between two looks; raises when the process is gone or the deadline over."""
        assert self._child is not None
        if self._child.poll() is not None or time.monotonic() > deadline:
            said = (self.folder / "up.out").read_text(errors="replace")[-2000:]
            raise HttpFailure(f"the cloud did not start: {said}")
        await asyncio.sleep(0.001)

    async def _hosts_up(self, seconds: float) -> None:
        """The state file is written when a host can take guests; a first start records the hosts meanwhile."""
        deadline = time.monotonic() + seconds
        while not (self.folder / "state.json").exists():
            await self.wait_a_moment(deadline)
        admin = self.connect(await login("127.0.0.1", self.port, self.auth("kilonova-admin")))
        while True:
            told = await admin.json("GET", "/compute/v2.1/os-services?binary=nova-compute")
            if sum(each["state"] == "up" for each in told["services"]) >= self.sim_hosts:
                return
            await self.wait_a_moment(deadline)
            await asyncio.sleep(0.05 + self.sim_hosts / 10_000)

    async def stop(self) -> None:
        """End the process in order."""
        for connection in self._connections:
            connection.close()
        self._connections.clear()
        child, self._child = self._child, None
        if child is None:
            return
        if child.poll() is None:
            child.send_signal(signal.SIGTERM)
        try:
            await asyncio.to_thread(child.wait, 20)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        (self.folder / "state.json").unlink(missing_ok=True)

    async def purge(self) -> None:
        """Have the stopped cloud take away what it made outside of its folder."""
        words = [*self.command, "down", "--dir", str(self.folder), "--purge"]
        await asyncio.to_thread(subprocess.run, words, capture_output=True, check=False)

    async def restart(self) -> None:
        """Stop and start on the same folder."""
        await self.stop()
        await self.start()

    def cpu(self) -> float:
        """CPU seconds of the process so far, its threads included."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICK

    def rss_mb(self) -> float:
        """Resident memory of its own, in MB."""
        text = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(r"^VmRSS:\s+(\d+) kB", text, re.MULTILINE)
        return int(found[1]) * 1024 / 1e6 if found else 0.0

    # its API

    def auth(self, cloud: str = "kilonova") -> dict[str, str]:
        """The log-in of a cloud in clouds.yaml."""
        import yaml

        found: dict[str, str] = yaml.safe_load((self.folder / "clouds.yaml").read_text())["clouds"][cloud]["auth"]
        return found

    def connect(self, token: str | None = None) -> Connection:
        """A connection as demo (or the owner of `token`)."""
        made = Connection("127.0.0.1", self.port, self.token if token is None else token)
        self._connections.append(made)
        return made

    def events(self) -> Events:
        """Demo's event stream."""
        return Events("127.0.0.1", self.port, self.token)

    async def metrics(self) -> str:
        """The text of /metrics."""
        connection = self.connect("")
        _, _, body = await connection.send("GET", "/metrics")
        return body.decode()

    async def server_body(self, count: int = 1) -> dict[str, Any]:
        """A POST /servers for the smallest flavor, the guest image and the network `private`."""
        if not self._refs:
            c = self.connect()
            images = await c.json("GET", "/image/v2/images")
            networks = await c.json("GET", "/network/v2.0/networks")
            flavors = await c.json("GET", "/compute/v2.1/flavors")
            smallest = "m1.nano" if self.driver == "sim" else "m1.micro"  # a kernel needs more than a sim
            self._refs = {
                "imageRef": images["images"][0]["id"],
                "flavorRef": next(f["id"] for f in flavors["flavors"] if f["name"] == smallest),
                "networks": [{"uuid": networks["networks"][0]["id"]}],
            }
        body = {"name": f"bench-{uuid4().hex[:8]}", **self._refs}
        if count > 1:
            body |= {"min_count": count, "max_count": count, "return_reservation_id": False}
        return {"server": body}

    async def create(self, connection: Connection) -> str:
        """POST one server; its uuid."""
        told = await connection.json("POST", "/compute/v2.1/servers", await self.server_body())
        uuid: str = told["server"]["id"]
        return uuid

    async def servers(self, connection: Connection) -> list[dict[str, Any]]:
        """All of demo's servers, page by page."""
        found: list[dict[str, Any]] = []
        path = "/compute/v2.1/servers"
        while True:
            told = await connection.json("GET", path)
            found += told["servers"]
            following = [link["href"] for link in told.get("servers_links", ()) if link["rel"] == "next"]
            if not following:
                return found
            path = "/" + following[0].split("/", 3)[3]

    async def populate(self, count: int) -> None:
        """Make servers, a hundred a request, and wait until all are ACTIVE."""
        connection = self.connect()
        for _ in range(count // 100):
            await connection.json("POST", "/compute/v2.1/servers", await self.server_body(100))
        async with asyncio.timeout(120):
            while True:
                _, _, body = await connection.send("GET", "/compute/v2.1/servers?status=ACTIVE&limit=1000")
                if len(msgspec.json.decode(body)["servers"]) >= min(count, 1000):
                    return
                await asyncio.sleep(0.2)
