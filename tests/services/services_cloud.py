"""A cloud of several processes: two API, two conductor and one compute process, real ones, on a private PostgreSQL."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import asyncpg
import httpx2
import msgspec
import yaml

from kilonova.compute.virt.sim.world import SimWorld

_OPEN_OF = """SELECT COUNT(*) FROM operations o JOIN owners w ON w.incarnation = o.owner
              WHERE o.ended_at IS NULL AND w.name = $1"""
_LIBVIRT = "driver = libvirt\n[libvirt]\nvirt_type = qemu\n"
_CUT = """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
          WHERE datname = current_database() AND pid <> pg_backend_pid()"""
START_S = 20.0
WAIT_S = 25.0
HOSTS = 5


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Process:
    """One service; `start` returns once it says that it is ready (sd_notify)."""

    def __init__(self, folder: Path, service: str, name: str, words: list[str]) -> None:
        self.folder, self.service, self.name, self.words = folder, service, name, words
        self.child: subprocess.Popen[bytes] | None = None
        self.output = folder / f"{name}.out"
        self.log = folder / f"{name}.log"
        self.settings: dict[str, str] = {}

    def start(self) -> None:
        self.ready(self.launch())

    def launch(self) -> socket.socket:
        """Start without waiting."""
        path = self.folder / f"{self.name}.ready"
        path.unlink(missing_ok=True)
        told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        told.bind(str(path))
        command = [sys.executable, "-m", "kilonova", self.service, "--name", self.name, *self.words]
        with self.output.open("ab") as out:
            self.child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
                env={**os.environ, **self.settings, "NOTIFY_SOCKET": str(path)},
            )  # fmt: skip
        return told

    def ready(self, told: socket.socket) -> None:
        with told:
            told.settimeout(0.2)
            deadline = time.monotonic() + START_S
            while time.monotonic() < deadline:
                with suppress(TimeoutError):
                    if told.recv(4096).startswith(b"READY=1"):
                        return
                assert self.child is not None
                assert self.child.poll() is None, self.said()
        raise AssertionError(f"{self.name} is not ready after {START_S} s: {self.said()}")

    def said(self) -> str:
        texts = [path.read_text(errors="replace") for path in (self.output, self.log) if path.exists()]
        return "".join(texts)[-20000:]

    def kill(self) -> None:
        """As the machine would at its worst."""
        if self.child is not None:
            self.child.kill()
            self.child.wait()
            self.child = None

    def stop(self) -> tuple[int, float]:
        """Ask it to end; (exit code, seconds it took)."""
        assert self.child is not None
        child, self.child = self.child, None
        started = time.monotonic()
        child.send_signal(signal.SIGTERM)
        try:
            return child.wait(10), time.monotonic() - started
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
            raise AssertionError(f"{self.name} did not end: {self.said()}") from None


def manage(*words: str) -> None:
    """Run `kilonova manage` in this process; it must succeed."""
    from kilonova.cli.main import main

    code = main(["manage", *words])
    assert code == 0, f"manage {words}: {code}"


def _names(service: str, count: int) -> list[str]:
    return [f"{service}-{n}" for n in range(1, count + 1)]


class SeveralProcesses:
    """The processes by name, and clients of both APIs."""

    def __init__(
        self, folder: Path, global_url: str, cell_url: str, *, each: int = 2, image: Path | None = None
    ) -> None:
        """`each`: how many API and conductor processes; with `image` (a qcow2) the host is libvirt's, else sim."""
        self.folder = folder
        self.urls = {"global": global_url, "cell0": global_url, "cell1": cell_url}
        conductors = {name: f"127.0.0.1:{free_port()}" for name in _names("conductor", each)}
        self.ports = {name: free_port() for name in _names("api", each)}
        transport = f"zmq://{','.join(conductors.values())}"
        keys = folder / "queue-keys"
        self.control = folder / "control.conf"
        self.control.write_text(
            f"[DEFAULT]\ntransport_url = {transport}\n"
            f"[api_database]\nconnection = {global_url}\nmax_pool_size = 5\n"
            f"[database]\nconnection = {cell_url}\nmax_pool_size = 5\n"
            f"[kilonova]\ndir = {folder / 'control'}\nqueue_keys = {keys}\n"
            "[quota]\ninstances = 100\ncores = 200\nram = 204800\n"
        )
        self.host = folder / "host.conf"
        self.host.write_text(
            f"[DEFAULT]\ntransport_url = {transport}\n"
            f"[kilonova]\ndir = {folder / 'host'}\nqueue_keys = {keys}\n"
            + (f"driver = sim\nsim_hosts = {HOSTS}\n" if image is None else _LIBVIRT)
        )
        control, host = ["-c", str(self.control)], ["-c", str(self.host)]
        manage("db", "sync", *control)
        for name, address in conductors.items():
            manage("enroll", name, "--role", "conductor", "--address", address, *control)
        for name in self.ports:
            manage("enroll", name, "--role", "api", *control)
        manage("enroll", "node-1", "--role", "host", "--speaks-for", "sim-*", *host)
        kind = "qcow2"
        if image is None:
            image, kind = folder / "disk.raw", "raw"
            image.write_bytes(bytes(1 << 20))
        url = f"http://127.0.0.1:{self.ports['api-1']}"
        manage("bootstrap", "--url", url, "--image", str(image), "--image-format", kind, *control)
        host += ["-c", str(folder / "control" / "service-user.conf")]
        self.processes = {
            **{name: Process(folder, "conductor", name, control) for name in conductors},
            **{
                name: Process(folder, "api", name, [*control, "--port", str(port)])
                for name, port in self.ports.items()
            },
            "node-1": Process(folder, "compute", "node-1", host),
        }
        for process in self.processes.values():
            process.settings["KILONOVA_LOG__FILE"] = str(process.log)

    @property
    def sim_world(self) -> Path:
        return self.folder / "host" / "sim" / "world.db"

    @contextmanager
    def world(self) -> Iterator[SimWorld]:
        """What the sim hosts are made of, seen and changed from outside."""
        world = SimWorld(self.sim_world)
        try:
            yield world
        finally:
            world.close()

    async def owns_work(self, name: str) -> bool:
        """Whether a conductor has open operations, by the records of all databases."""
        for url in set(self.urls.values()):
            con = await asyncpg.connect(url)
            try:
                if await con.fetchval(_OPEN_OF, name):
                    return True
            finally:
                await con.close()
        return False

    async def cut_databases(self) -> None:
        """Break every connection that the processes have."""
        for url in set(self.urls.values()):
            con = await asyncpg.connect(url)
            try:
                await con.execute(_CUT)
            finally:
                await con.close()

    def start(self) -> None:
        waits = [(process, process.launch()) for process in self.processes.values()]
        for process, told in waits:
            process.ready(told)

    async def takes_servers(self) -> None:
        """Wait until the hosts have told every conductor of themselves: what is asked for before finds no host."""
        async with self.client("api-1") as one:

            async def all_active() -> bool:
                servers = [await one.create(f"first-{n}") for n in range(4)]
                await until(lambda: one.all_in(servers, "ACTIVE", "ERROR"), "servers to be there", WAIT_S)
                good = await one.all_in(servers, "ACTIVE")
                for server in servers:
                    await one.delete(server)
                await one.settled(servers, "DELETED")
                return good

            await until(all_active, "the cloud to take servers")

    def end(self) -> None:
        for process in self.processes.values():
            process.kill()

    @asynccontextmanager
    async def client(self, api: str, cloud: str = "kilonova") -> AsyncIterator[Client]:
        auth = yaml.safe_load((self.folder / "control" / "clouds.yaml").read_text())["clouds"][cloud]["auth"]
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{self.ports[api]}", timeout=20.0) as http:
            yield await Client.log_in(http, auth)


class Client:
    """A user at one API."""

    def __init__(self, http: httpx2.AsyncClient, token: str) -> None:
        self.http, self.headers = http, {"x-auth-token": token, "openstack-api-version": "compute 2.90"}
        self._wanted: dict[str, Any] = {}

    @classmethod
    async def log_in(cls, http: httpx2.AsyncClient, auth: dict[str, str]) -> Client:
        user = {"name": auth["username"], "domain": {"id": "default"}, "password": auth["password"]}
        body = {
            "auth": {
                "identity": {"methods": ["password"], "password": {"user": user}},
                "scope": {"project": {"name": auth["project_name"], "domain": {"id": "default"}}},
            }
        }
        answer = await http.post("/identity/v3/auth/tokens", json=body)
        assert answer.status_code == 201, answer.text
        return cls(http, answer.headers["x-subject-token"])

    async def get(self, path: str) -> Any:
        answer = await self.http.get(f"/compute/v2.1{path}", headers=self.headers)
        assert answer.status_code == 200, (answer.status_code, answer.text)
        return answer.json()

    async def create(self, name: str, **more: Any) -> str:
        if not self._wanted:
            images = (await self.http.get("/image/v2/images", headers=self.headers)).json()["images"]
            self._wanted = {"imageRef": images[0]["id"], "flavorRef": "1", "networks": "auto"}
        body = {"server": {"name": name, **self._wanted, **more}}
        answer = await self.http.post("/compute/v2.1/servers", json=body, headers=self.headers)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["server"]["id"])

    async def act(self, server: str, action: dict[str, Any]) -> Any:
        answer = await self.http.post(f"/compute/v2.1/servers/{server}/action", json=action, headers=self.headers)
        assert answer.status_code in (200, 202), answer.text
        return answer.json() if answer.content else None

    async def delete(self, server: str) -> None:
        answer = await self.http.delete(f"/compute/v2.1/servers/{server}", headers=self.headers)
        assert answer.status_code == 204, answer.text

    async def states(self) -> dict[str, str]:
        found = (await self.get("/servers/detail"))["servers"]
        return {each["id"]: each["status"] for each in found}

    async def all_in(self, servers: list[str], *states: str) -> bool:
        """Whether each of them shows one of `states`."""
        found = await self.states()
        return all(found.get(server, "DELETED") in states for server in servers)

    async def settled(self, servers: list[str], status: str, seconds: float = WAIT_S) -> None:
        """Wait until all have this status; DELETED means gone."""

        async def there() -> bool:
            states = await self.states()
            now = [states.get(server, "DELETED") for server in servers]
            assert status == "ERROR" or "ERROR" not in now, "one is in error"
            return all(state == status for state in now)

        try:
            await until(there, f"servers to be {status}", seconds)
        except AssertionError as error:
            states = await self.states()
            odd = {server: states.get(server) for server in servers if states.get(server, "DELETED") != status}
            fault = (await self.get(f"/servers/{next(iter(odd))}"))["server"].get("fault") if odd else None
            raise AssertionError(f"{error}: {odd}, {fault}") from None

    @asynccontextmanager
    async def events(self, resume: str | None = None) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
        """The event stream: dictionaries with event, id, data."""
        headers = {**self.headers, **({"last-event-id": resume} if resume else {})}
        async with self.http.stream("GET", "/compute/v2.1/kilonova/events", headers=headers, timeout=None) as answer:
            assert answer.status_code == 200
            yield _events(answer)


async def _events(answer: httpx2.Response) -> AsyncIterator[dict[str, Any]]:
    found: dict[str, Any] = {}
    async for line in answer.aiter_lines():
        if line:
            name, _, value = line.partition(": ")
            found[name or "comment"] = value
        elif found:
            if "data" in found:
                found["data"] = msgspec.json.decode(found["data"])
            yield found
            found = {}


async def until(there: Callable[[], Awaitable[bool]], what: str, seconds: float = WAIT_S) -> None:
    """Look until it is so."""
    deadline = time.monotonic() + seconds
    while not await there():
        assert time.monotonic() < deadline, f"waited {seconds} s for {what}"
        await asyncio.sleep(0.05)
