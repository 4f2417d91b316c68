"""A cloud in small for the conductor's tests: real journal, scheduler, placement, bus, hosts; a sim world.

Only the HTTP face and the companions are left out: requests are written as the API writes them, and the
network is a model whose content can be looked at.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import msgspec

from kilonova.bus.envelope import Identity, new_incarnation
from kilonova.bus.memory import MemoryBus, MemoryHub
from kilonova.compute.service import ComputeService
from kilonova.compute.virt.sim.driver import SimDriver
from kilonova.compute.virt.sim.world import HostSize, SimWorld
from kilonova.conductor.audit import Finding, SeenGuest, World, compare, gather
from kilonova.conductor.ports import CallContext, Ports
from kilonova.conductor.service import Conductor
from kilonova.db.database import Database, Tx
from kilonova.db.open import Databases
from kilonova.db.queries import quota, server_index, server_state
from kilonova.db.queries.admission import Admission, Admitted, admit, admit_unplaced_delete, reset_state
from kilonova.db.queries.operations import open_operation
from kilonova.db.relay import Relay
from kilonova.db.statement import Statement
from kilonova.model import state_machine
from kilonova.model.operation import (
    NewOperation,
    RebootInputs,
    RequestedNetwork,
    ScheduleInputs,
    ServerInputs,
    StopInputs,
)
from kilonova.model.scheduling import Request
from kilonova.model.server import Address, Flavor, Server
from kilonova.network.port import NetworkConflict, NetworkUnavailable, PortRequest
from kilonova.scheduler.service import Scheduler, SchedulerSettings

PROJECT = "11111111-1111-4111-8111-111111111111"
USER = "22222222-2222-4222-8222-222222222222"
FLAVOR = Flavor(flavor_id="1", name="m1.tiny", vcpus=1, memory_mb=512, root_gb=1)
NETWORK = RequestedNetwork(network_id="33333333-3333-4333-8333-333333333333")
QUOTAS = {"instances": 1000, "cores": 1000, "ram": 1 << 30}


_OPEN = Statement("SELECT id FROM operations WHERE target = :server AND ended_at IS NULL LIMIT 1")


def now_us() -> int:
    return time.time_ns() // 1000


class ModelNetwork:
    """A network service in memory that outlives conductors, with settable failures."""

    def __init__(self) -> None:
        self.ports: dict[str, str] = {}
        """Port -> server."""
        self.refuse: set[str] = set()
        self.away = False
        self.calls = 0

    async def resolve(self, *args: object, **kw: object) -> tuple[RequestedNetwork, ...]:
        return (NETWORK,)

    async def auto_allocate(self, *args: object) -> tuple[RequestedNetwork, ...]:
        return (NETWORK,)

    async def names(self, *args: object) -> dict[str, str]:
        return {NETWORK.network_id: "private"}

    async def held(self, after: str = "") -> list[tuple[str, str]]:
        return [(p, s) for p, s in sorted(self.ports.items()) if p > after]

    async def ensure_ports(self, request: PortRequest) -> tuple[Address, ...]:
        self.calls += 1
        if self.away:
            raise NetworkUnavailable("away")
        if request.server in self.refuse:
            raise NetworkConflict("No more IP addresses available on network private.")
        made = []
        for port_id, network in zip(request.port_ids, request.networks, strict=True):
            self.ports[port_id] = request.server
            made.append(Address(port_id=port_id, network_id=network.network_id, label="private",
                                mac="fa:16:3e:00:00:01", ips=(("10.0.0.4", 4),)))  # fmt: skip
        return tuple(made)

    async def ensure_no_ports(self, server: str, keep: tuple[str, ...] = ()) -> None:
        self.calls += 1
        if self.away:
            raise NetworkUnavailable("away")
        for port_id in [p for p, s in self.ports.items() if s == server]:
            del self.ports[port_id]


Hook = Callable[["Call", Callable[[], Awaitable[bytes]]], Awaitable[bytes]]


@dataclass
class Call:
    """One call on its way out of the conductor."""

    story: str
    port: str
    method: str
    undo: bool
    key: str


class TappedPorts:
    """All calls of all operations pass here; a hook may fail, double, hold or watch them."""

    def __init__(self, inner: Ports) -> None:
        self.inner, self.hook = inner, None
        self.calls: list[Call] = []

    async def perform(self, port: str, method: str, args: bytes, call: CallContext) -> bytes:
        seen = Call("", port, method, call.undo, call.key)
        self.calls.append(seen)

        async def go() -> bytes:
            return await self.inner.perform(port, method, args, call)

        return await (self.hook(seen, go) if self.hook is not None else go())


class SmallCloud:
    """One conductor over given databases and a sim world. Make another on the same ones to take over."""

    def __init__(
        self, databases: Databases, world: SimWorld, folder: Path, network: ModelNetwork, *, hosts: int = 2,
        alone: bool = True, now=now_us,
    ) -> None:  # fmt: skip
        self.databases, self.world, self.network, self.folder = databases, world, network, folder
        self.hub = MemoryHub()
        self.names = tuple(f"sim-{n}" for n in range(hosts))
        self.bus = MemoryBus(self.hub, Identity(name="conductor-1", role="conductor", incarnation=new_incarnation()))
        self.host_bus = MemoryBus(
            self.hub,
            Identity(name="sim", role="host", incarnation=new_incarnation(), speaks_for=self.names),
        )
        self.scheduler = Scheduler(databases.global_, SchedulerSettings())
        self.conductor = Conductor(
            databases.global_, databases.cells, self.bus, name="conductor-1", scheduler=self.scheduler,
            network=network, alone=alone, now_us=now,
            beat=self.scheduler.beat,
        )  # fmt: skip
        for executor in self.conductor.executors:
            executor.backoff_s = (0.01, 0.02, 0.05)
            executor.undo_budget_s = 0.3
        self.compute = ComputeService(
            self.host_bus, "sim", {n: SimDriver(world, n) for n in self.names}, folder, durable=False
        )
        self._tasks: list[asyncio.Task[None]] = []
        self.tap = TappedPorts(self.conductor.ports)
        for executor in self.conductor.executors:
            executor.ports = self.tap
        for reconciler in self.conductor.reconcilers:
            reconciler.ports = self.tap

    async def start(self, *, wait: bool = True) -> None:
        await self.bus.start()
        await self.host_bus.start()
        await self.conductor.start()
        await self.compute.start()
        self._tasks = [asyncio.create_task(self.scheduler.run())]
        for database in self.databases.all():
            if database.dialect != "sqlite":
                relay = Relay(database, self.conductor.me, self.scheduler.poke)
                self._tasks.append(asyncio.create_task(relay.run()))
        if wait:
            await self.until(self._hosts_known, "hosts to be known")

    async def _hosts_known(self) -> bool:
        """Every host can be chosen: known, up, with its inventory."""
        self.scheduler.poke()
        for name in self.names:
            probe = Request(servers=("probe",), resources={"VCPU": 1, "MEMORY_MB": 1, "DISK_GB": 1}, host=name)
            if not await self.scheduler.choose(probe):
                return False
            self.scheduler.refused(("probe",))
        return True

    async def indebted(self, *hosts: str) -> None:
        """Wait until the scheduler takes exactly these hosts for indebted."""

        async def seen() -> bool:
            self.scheduler.poke()
            columns = self.scheduler.columns
            return {columns.host[row] for row in columns.row.values() if columns.owing[row]} == set(hosts)

        await self.conductor.indebted.mark()
        await self.until(seen, f"debts of {hosts} to be seen")

    async def crash(self, *, wait: bool = True) -> SmallCloud:
        """The conductor's process dies where it stands; another comes up on the same databases and world.

        `wait`: until every host can be chosen (which one that is full or owes something cannot).
        """
        for task in self.conductor._tasks:
            task.cancel()
        for executor in self.conductor.executors:
            await executor.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.compute.stop()
        await self.bus.stop()
        await self.host_bus.stop()
        cloud = SmallCloud(self.databases, self.world, self.folder, self.network, hosts=len(self.names))
        await cloud.start(wait=wait)
        return cloud

    @staticmethod
    def beside(cloud: SmallCloud) -> SmallCloud:
        """A second conductor that believes to be alone on the same cloud (the other is a zombie); only its
        conductor is to be started."""
        other = SmallCloud.__new__(SmallCloud)
        other.__dict__.update(cloud.__dict__)
        other.bus = MemoryBus(
            cloud.hub, Identity(name="conductor-2", role="conductor", incarnation=new_incarnation())
        )
        other.conductor = Conductor(
            cloud.databases.global_, cloud.databases.cells, other.bus, name="conductor-2",
            scheduler=cloud.scheduler, network=cloud.network, alone=True, beat=cloud.scheduler.beat,
        )  # fmt: skip
        return other

    async def stop(self) -> None:
        await self.conductor.stop()
        await self.compute.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.bus.stop()
        await self.host_bus.stop()

    async def until(self, condition, what: str, seconds: float = 20.0) -> None:
        """Wait for a condition over committed state, with a deadline."""
        deadline = asyncio.get_running_loop().time() + seconds
        while not await condition():
            if asyncio.get_running_loop().time() > deadline:
                raise AssertionError(f"waited {seconds} s for {what}")
            await asyncio.sleep(0.005)

    # as the API writes

    async def create(self, count: int = 1, *, networks=(NETWORK,), host: str | None = None) -> list[str]:
        uuids = [str(uuid4()) for _ in range(count)]
        await self.databases.global_.write(_create, (uuids, networks, host))
        self.bus.wake("operation", "")
        for executor in self.conductor.executors:
            await executor.poll()
        return uuids

    @staticmethod
    def asked(uuid: str, rule: state_machine.Rule, inputs: msgspec.Struct) -> Admission:
        return Admission(
            server=uuid, rule=rule, operation_id=str(uuid4()), inputs=msgspec.json.encode(inputs),
            request_id=f"req-{uuid4()}", user_id=USER, project_id=PROJECT, passes_lock=False, now=now_us(),
        )  # fmt: skip

    async def reset(self, uuid: str, vm_state: str) -> Admitted:
        asked = self.asked(uuid, state_machine.DELETE, ServerInputs(server=uuid))
        answer = Admitted(gone=True)
        for database in (*self.databases.cells.values(),):
            answer = await database.write(_reset, (asked, vm_state))
            if not answer.gone:
                break
        for executor in self.conductor.executors:
            await executor.poll()
        return answer

    async def act(self, uuid: str, rule: state_machine.Rule, inputs: msgspec.Struct) -> Admitted:
        asked = self.asked(uuid, rule, inputs)
        answer = Admitted(gone=True)
        for database in (*self.databases.cells.values(),):
            answer = await database.write(admit, asked)
            if not answer.gone:
                break
        if answer.gone and rule is state_machine.DELETE:
            answer = await self.databases.global_.write(admit_unplaced_delete, asked)
        for executor in self.conductor.executors:
            await executor.poll()
        return answer

    async def delete(self, uuid: str) -> Admitted:
        return await self.act(uuid, state_machine.DELETE, ServerInputs(server=uuid))

    async def power_off(self, uuid: str) -> Admitted:
        return await self.act(uuid, state_machine.STOP, StopInputs(server=uuid, graceful_s=0))

    async def power_on(self, uuid: str) -> Admitted:
        return await self.act(uuid, state_machine.START, ServerInputs(server=uuid))

    async def reboot(self, uuid: str, kind: str) -> Admitted:
        rule = state_machine.HARD_REBOOT if kind == "HARD" else state_machine.SOFT_REBOOT
        return await self.act(uuid, rule, RebootInputs(server=uuid, kind=kind))

    # what stands

    def seen(self) -> World:
        """The world as it is, asked directly."""
        hosts = self.world.snapshot()
        return World(
            guests=tuple(
                SeenGuest(host=h, uuid=g.uuid, power_state=int(g.power_state))
                for h, content in hosts.items() for g in content.guests
            ),
            disks=tuple((h, d.uuid) for h, content in hosts.items() for d in content.disks),
            taps=tuple((h, t.uuid, t.port) for h, content in hosts.items() for t in content.taps),
            ports=tuple((p, s, ()) for p, s in self.network.ports.items()),
        )  # fmt: skip

    async def audit(self) -> list[Finding]:
        """What the checker finds once nothing is under way."""
        for executor in self.conductor.executors:
            await executor.idle()
        return compare(await gather(self.databases), self.seen())

    async def server(self, uuid: str) -> Server | None:
        for database in dict.fromkeys(self.databases.cells.values()):
            row = await database.fetch_one(server_state.SELECT, {"uuid": uuid})
            if row is not None:
                return Server(**dict(zip(server_state.COLUMNS, row, strict=True)))
        return None

    async def under_way(self, uuid: str) -> bool:
        """Whether any operation on the server is open, superseded ones too."""
        for database in dict.fromkeys(self.databases.cells.values()):
            if await database.fetch_one(_OPEN, {"server": uuid}) is not None:
                return True
        return False

    async def settled(self, uuid: str, *states: str, seconds: float = 20.0) -> Server | None:
        """The server once it is in one of `states` with nothing under way (``deleted`` = gone)."""
        found: list[Server | None] = [None]

        async def look() -> bool:
            found[0] = server = await self.server(uuid)
            if server is None:
                return "deleted" in states and await self.databases.global_.fetch_one(
                    server_index.FIND, {"uuid": uuid}
                ) is None
            return server.task_state is None and server.vm_state in states and not await self.under_way(uuid)

        try:
            await self.until(look, f"server {uuid} to be {states}", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; it is {found[0]!r}, {found[0] and found[0].fault}") from None
        return found[0]


async def _reset(tx: Tx, args: tuple[Admission, str]) -> Admitted:
    return await reset_state(tx, *args)


async def _create(tx: Tx, args: tuple[list[str], tuple[RequestedNetwork, ...], str | None]) -> None:
    uuids, networks, host = args
    now, operation = now_us(), str(uuid4())
    for n, uuid in enumerate(uuids):
        server = Server(
            uuid=uuid, project_id=PROJECT, user_id=USER, name=f"s{n}", hostname=f"s{n}", flavor_id="1",
            flavor=msgspec.json.encode(FLAVOR).decode(), vcpus=1, memory_mb=512, root_gb=1, created_at=now,
            updated_at=now, operation_id=operation, next_number=2, config_drive=1,
        )  # fmt: skip
        await server_index.insert(tx, server)
    inputs = ScheduleInputs(
        servers=tuple(uuids), networks=networks, host=host,
        resources={"VCPU": 1, "MEMORY_MB": 512, "DISK_GB": 1},
    )  # fmt: skip
    await open_operation(
        tx,
        NewOperation(id=operation, story="schedule", target=uuids[0] if len(uuids) == 1 else None, number=1,
                     inputs=msgspec.json.encode(inputs), request_id=f"req-{uuid4()}", user_id=USER,
                     project_id=PROJECT, created_at=now),
    )  # fmt: skip
    amounts = {"instances": len(uuids), "cores": len(uuids), "ram": 512 * len(uuids)}
    await quota.take(tx, PROJECT, USER, amounts, QUOTAS)


@asynccontextmanager
async def small_cloud(
    databases: Databases, folder: Path, *, hosts: int = 2, size: HostSize | None = None
) -> AsyncIterator[SmallCloud]:
    world = SimWorld(folder / "world.db", size)
    cloud = SmallCloud(databases, world, folder, ModelNetwork(), hosts=hosts)
    await cloud.start()
    try:
        yield cloud
    finally:
        await cloud.stop()
        world.close()


async def count(database: Database, sql: str) -> int:
    row = await database.fetch_one(Statement(sql), {})
    assert row is not None
    return int(row[0])
