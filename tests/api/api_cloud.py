"""A Compute API alone: tokens, images and networks are small fakes, no conductor runs, so servers stay as asked for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any
from uuid import UUID, uuid4, uuid5

import httpx2

from kilonova.api.face import ComputeFace
from kilonova.api.services import ApiServices, ApiSettings
from kilonova.db.database import Database, Tx
from kilonova.db.queries import flavors, server_state
from kilonova.db.queries.server_index import FIND
from kilonova.db.statement import Statement
from kilonova.http.app import HttpApp
from kilonova.http.errors import Unauthorized
from kilonova.image.port import ImageInfo, ImageNotFound
from kilonova.model.credentials import Credentials
from kilonova.model.operation import RequestedNetwork
from kilonova.model.server import Address
from kilonova.network.port import NetworkNotFound
from kilonova.policy.enforcer import Enforcer

IMAGE = "70a599e0-31e7-49b7-b260-868f441e862b"
BIG_IMAGE = "155d900f-4e14-4e4c-a73d-069cbf4541e6"
NETWORK = "33333333-3333-4333-8333-333333333333"
DEMO, OTHER, ADMIN = (str(uuid5(UUID(int=0), name)).replace("-", "") for name in ("demo", "other", "admin"))

_PLACE = Statement("UPDATE server_index SET cell = :cell WHERE uuid = :uuid")
_ARCHIVE = Statement("INSERT INTO servers_archive SELECT * FROM servers WHERE uuid = :uuid")
_GONE = Statement("DELETE FROM server_index WHERE uuid = :uuid")


def _creds(name: str, project: str | None, *roles: str, **more: Any) -> Credentials:
    user = str(uuid5(UUID(int=1), name)).replace("-", "")
    return Credentials.make(user, roles, project_id=project, user_name=name, **more)


TOKENS = {
    "member": _creds("member", DEMO, "member"),
    "friend": _creds("friend", DEMO, "member"),
    "reader": _creds("reader", DEMO, "reader"),
    "other": _creds("other", OTHER, "member"),
    "admin": _creds("admin", ADMIN, "admin"),
    "demo-admin": _creds("demo-admin", DEMO, "admin"),
    "system": _creds("system", None, "admin", system_scope="all"),
}


class Tokens:
    async def validate(self, token: str) -> Credentials:
        try:
            return TOKENS[token]
        except KeyError:
            raise Unauthorized("no such token") from None


class Images:
    def __init__(self) -> None:
        self.known = {
            IMAGE: ImageInfo(
                id=IMAGE, name="cirros", status="active", owner=ADMIN, size=16 << 20, disk_format="qcow2",
                container_format="bare", hash_algo="sha512", hash_value="ab" * 64, properties={"hw_disk_bus": "virtio"},
            ),
            BIG_IMAGE: ImageInfo(
                id=BIG_IMAGE, name="big", status="active", owner=ADMIN, size=50 << 30, disk_format="raw",
                container_format="bare", min_ram=4096,
            ),
        }  # fmt: skip

    async def show(self, image_id: str, creds: Credentials) -> ImageInfo:
        if image_id not in self.known:
            raise ImageNotFound(image_id)
        return self.known[image_id]

    async def open(self, image_id: str) -> AsyncIterator[bytes]:
        yield b""


class Networks:
    async def resolve(
        self, creds: Credentials, requested: tuple[RequestedNetwork, ...] | None, count: int = 1
    ) -> tuple[RequestedNetwork, ...]:
        if requested is None:
            return (RequestedNetwork(network_id=NETWORK),)
        for each in requested:
            if each.port_id is None and each.network_id != NETWORK:
                raise NetworkNotFound(f"Network {each.network_id} could not be found.")
        return requested

    async def auto_allocate(self, creds: Credentials) -> tuple[RequestedNetwork, ...]:
        return (RequestedNetwork(network_id=NETWORK),)

    async def ensure_ports(self, request: Any) -> tuple[Address, ...]:
        return ()

    async def ensure_no_ports(self, server: str, keep: tuple[str, ...] = ()) -> None:
        return None

    async def names(self, creds: Credentials, network_ids: tuple[str, ...]) -> dict[str, str]:
        return dict.fromkeys(network_ids, "private")


class Cloud:
    """The API over given databases, and the hands of a conductor for tests that need a placed server."""

    def __init__(self, databases: Any, **settings: Any) -> None:
        self.databases = databases
        self.wakes: list[tuple[str, str]] = []
        self.images = Images()
        self.consoles: dict[str, str] = {}
        self.micros = 1_790_000_000_000_000
        self.services = ApiServices(
            databases=databases, images=self.images, networks=Networks(), identity=Tokens(), policy=Enforcer(),
            wake=lambda topic, subject: self.wakes.append((topic, subject)), settings=ApiSettings(**settings),
            clock=self._tick, call_host=self._call_host,
        )  # fmt: skip
        self.face = ComputeFace(self.services)
        self.app = HttpApp({"": self.face, "/compute": self.face})
        self._http = httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app=self.app), base_url="http://cloud.test/compute/v2.1"
        )

    def _tick(self) -> int:
        self.micros += 1_000_001
        return self.micros

    async def _call_host(self, host: str, method: str, payload: bytes) -> bytes:
        return b'{"output":"login:"}'

    @property
    def whole(self) -> Database:
        found: Database = self.databases.global_
        return found

    @property
    def cell(self) -> Database:
        cells: Mapping[str, Database] = self.databases.cells
        return cells["cell1"]

    async def call(
        self, method: str, path: str, body: Any = None, *, who: str | None = "member", version: str | None = None,
        headers: dict[str, str] | None = None, content: bytes | None = None,
    ) -> httpx2.Response:  # fmt: skip
        """One request. `path` is below /compute/v2.1 unless it is a whole URL."""
        sent = dict(headers or {})
        if who is not None:
            sent["x-auth-token"] = who
        if version is not None:
            sent["openstack-api-version"] = f"compute {version}"
        url = path if path.startswith("http") else f"http://cloud.test/compute/v2.1{path}"
        if content is not None:
            sent.setdefault("content-type", "application/json")
            return await self._http.request(method, url, content=content, headers=sent)
        return await self._http.request(method, url, json=body, headers=sent) if body is not None else (
            await self._http.request(method, url, headers=sent)
        )

    async def get(self, path: str, **more: Any) -> Any:
        """The body of a GET that must succeed."""
        answer = await self.call("GET", path, **more)
        assert answer.status_code == 200, (answer.status_code, answer.text)
        return answer.json()

    async def boot(self, name: str = "web", **more: Any) -> str:
        """A server as asked for; its id."""
        who, version = more.pop("who", "member"), more.pop("version", None)
        body = {"server": {"name": name, "flavorRef": "1", "imageRef": IMAGE, "networks": "auto", **more}}
        if version is None:
            body["server"].pop("networks")
        answer = await self.call("POST", "/servers", body, who=who, version=version)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["server"]["id"])

    async def place(self, uuid: str, **fields: Any) -> None:
        """Do what `schedule` and `build` would have done: the server is ACTIVE on a host of cell1."""
        row = await self.whole.fetch_one(FIND, {"uuid": uuid})
        from kilonova.db.queries.server_index import indexed

        found = indexed(row)  # type: ignore[arg-type]
        assert found is not None and found.unplaced is not None
        server = found.unplaced
        server.vm_state, server.task_state, server.power_state = "active", None, 1
        server.host, server.node, server.launched_at = "host-1", "host-1", server.created_at + 5
        server.operation_id = None
        for name, value in fields.items():
            setattr(server, name, value)
        await self.cell.write(server_state.insert, server)
        await self.whole.write(_placed, uuid)

    async def active(self, name: str = "web", **more: Any) -> str:
        """A server that is up."""
        uuid = await self.boot(name, **more)
        await self.place(uuid)
        return uuid

    async def close(self) -> None:
        await self._http.aclose()


async def _placed(tx: Tx, uuid: str) -> None:
    await tx.execute(_PLACE, {"uuid": uuid, "cell": "cell1"})


async def _flavors(tx: Tx, _: None) -> None:
    for number, (name, ram) in enumerate((("m1.nano", 64), ("m1.tiny", 512), ("m1.large", 8192)), 1):
        await flavors.insert(
            tx,
            flavors.FlavorRow(
                flavor_id=str(number), name=name, vcpus=1, memory_mb=ram, root_gb=number, created_at=1,
                extra_specs={"hw:mem_page_size": "any"} if number == 3 else {},
            ),
        )  # fmt: skip
    await flavors.insert(
        tx, flavors.FlavorRow(flavor_id="secret", name="m1.secret", vcpus=2, memory_mb=64, root_gb=1, is_public=0)
    )


async def open_cloud(databases: Any, **settings: Any) -> Cloud:
    """A cloud with three public flavors and a private one."""
    cloud = Cloud(databases, **settings)
    await cloud.whole.write(_flavors, None)
    return cloud


def new_uuid() -> str:
    return str(uuid4())


async def archive(cloud: Cloud, uuid: str) -> None:
    """Do what the end of a delete does: the row moves to the archive, the index row goes."""
    await cloud.cell.write(_archive, (uuid, cloud.micros))
    await cloud.whole.write(_forget, uuid)


async def _archive(tx: Tx, args: tuple[str, int]) -> None:
    uuid, now = args
    await server_state.change(tx, uuid, {"vm_state": "deleted", "task_state": None, "terminated_at": now}, now)
    await tx.execute(_ARCHIVE, {"uuid": uuid})
    await tx.execute(server_state.DELETE, {"uuid": uuid})


async def _forget(tx: Tx, uuid: str) -> None:
    await tx.execute(_GONE, {"uuid": uuid})
