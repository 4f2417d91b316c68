"""The conductor service of one process: an executor for each database, owners, debts, reports, asks.

Composes what the other modules of this room do; decides nothing about servers.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any
from uuid import uuid4

import msgspec

from kilonova import metrics
from kilonova.bus.api import Accepted, Bus, BusError, RemoteError, Sender
from kilonova.conductor import beats
from kilonova.conductor import operations as _stories  # noqa: F401  # registers every story
from kilonova.conductor.database_port import DatabasePort
from kilonova.conductor.debts import Indebted, Reconciler
from kilonova.conductor.executor import Executor
from kilonova.conductor.host_port import HostPort
from kilonova.conductor.housekeeping import Housekeeping
from kilonova.conductor.network_port import NetworkSteps
from kilonova.conductor.ownership import Ownership
from kilonova.conductor.ports import Ports
from kilonova.conductor.reports import Reports
from kilonova.conductor.run import Run
from kilonova.conductor.scheduler_port import SchedulerSteps
from kilonova.db.database import Database
from kilonova.db.errors import DatabaseError
from kilonova.db.queries import server_state
from kilonova.log import get_logger
from kilonova.metadata.document import config_drive
from kilonova.model.command import Command, Fence, ForgetArgs, Forgotten, Method, StepResult
from kilonova.model.placement import Ratios
from kilonova.model.server import Server
from kilonova.network.port import NetworkPort
from kilonova.scheduler.port import SchedulerPort

log = get_logger(__name__)

OPERATION_TOPIC = "operation"
"""Wakes: an operation's id."""
LOOKS = frozenset({Method.CONSOLE})
"""What the API may ask of a host: it changes nothing there."""
_POLL_S = 1.0
_TURN_S = 0.15
_DEBT_S = 5.0
_FORGET_S = 2.0
_RETIRE_S = 600.0
_SWEEP_S = 60.0
_encode = msgspec.json.Encoder().encode


def _now_us() -> int:
    return time.time_ns() // 1000


class Look(msgspec.Struct, frozen=True):
    """An ask `host.look`: one of `LOOKS` with its arguments; the answer is the method's output."""

    host: str
    method: str
    args: msgspec.Raw


class Conductor:
    """One incarnation of a conductor."""

    def __init__(
        self,
        global_: Database,
        cells: Mapping[str, Database],
        bus: Bus,
        *,
        name: str,
        host: str | None = None,
        programs: tuple[str, ...] = ("nova-conductor", "nova-scheduler"),
        down_after_s: float = beats.DOWN_AFTER_S,
        scheduler: SchedulerPort,
        network: NetworkPort,
        beat: Callable[[tuple[str, ...], str, int], None] = lambda hosts, incarnation, counter: None,
        ratios: Ratios | None = None,
        alone: bool = False,
        default_cell: str = "cell1",
        now_us: Callable[[], int] = _now_us,
    ) -> None:
        """`alone`: this process is the only one (it holds the lock on the cloud's folder).

        `host`: the machine it runs on, its `name` unless told; `programs`: what it is, as the services table says.
        """
        self.me, self._alone = str(uuid4()), alone
        self.bus, self.now_us = bus, now_us
        named: dict[str, Database] = {"global": global_, **cells}
        self._named = named
        self._cells = tuple(dict.fromkeys(cells.values()))
        self._default_cell = default_cell
        self._beat = beat
        self._alone = alone
        self.own_beats = beats.BeatWriter(global_, host or name, programs, now_us)
        self.beats = beats.BeatReader(global_, beat=beat, down_after_s=down_after_s)
        """Which services are up, whoever hears them; turns only where there are several processes."""
        self.hosts = HostPort(bus)
        self.ports = Ports()
        self.ports.add("host", self.hosts)
        self.ports.add("network", NetworkSteps(network))
        self.ports.add("scheduler", SchedulerSteps(scheduler))
        self.ports.add("db", DatabasePort(named, self.wake))
        self.executors: list[Executor] = []
        self.owners: list[Ownership] = []
        self.reconcilers: list[Reconciler] = []
        self.indebted = Indebted(global_, tuple(dict.fromkeys(named.values())), now_us)
        for database in dict.fromkeys(named.values()):
            names = [n for n, d in named.items() if d is database]
            together = set(names)
            # SQLite only: elsewhere a network's hot row would stay locked for the whole boundary.
            if getattr(network, "database", None) is database and database.dialect == "sqlite":
                together.add("network")
            owner = Ownership(database, self.me, name, alone=alone, now_us=now_us)
            self.owners.append(owner)
            self.executors.append(
                Executor(
                    database, self.ports, self.me, name=names[0], together=frozenset(together), wake=self.wake,
                    now_us=now_us, may_act=owner.may_act, on_end=self._ended,
                )
            )  # fmt: skip
            self.reconcilers.append(Reconciler(database, self.ports, now_us, self.indebted.look))
        self.reports = Reports(
            global_, self._cell_of, self.hosts, ratios=ratios or Ratios(), beat=self._heard, wake=self.wake,
            now_us=now_us,
        )  # fmt: skip
        self.housekeeping = Housekeeping(global_, list(dict.fromkeys(named.values())), network, now_us)
        self._forget: dict[str, dict[str, set[str]]] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def _cell_of(self, host: str) -> tuple[str, Database]:
        return self._default_cell, self._named[self._default_cell]

    def _heard(self, hosts: tuple[str, ...], incarnation: str, counter: int) -> None:
        self._beat(hosts, incarnation, counter)
        if not self._alone:
            self.own_beats.heard(hosts, incarnation)

    def service_up(self, host: str, program: str) -> bool:
        """Whether a service lives: this process itself, or one whose beat in the database moves."""
        own = self.own_beats
        return (host == own.host and program in own.programs) or self.beats.is_up(host, program)

    def wake(self, operation_id: str) -> None:
        """An operation was opened here: it goes on here. Should this process end now, the others' poll finds it."""
        self.poke(operation_id)

    def told(self, operation_id: str) -> None:
        """The API's wake reaches every conductor: one begins at once, the others look a little later whether it did."""
        rank = self.owners[0].rank(operation_id)
        if rank == 0:
            self.poke(operation_id)
        else:
            asyncio.get_running_loop().call_later(_TURN_S * rank, self.poke, operation_id)

    def poke(self, operation_id: str) -> None:
        """Look for this operation in every database of ours (ids say nothing of where they live)."""
        for executor in self.executors:
            executor.poke(operation_id)

    async def start(self) -> None:
        """Announce, take over, listen, run."""
        for owner in self.owners:
            await owner.start()
        await self.own_beats.enter()
        self.bus.on_wake(OPERATION_TOPIC, self.told)
        self.bus.on_report(self.reports.take)
        self.bus.answer("server.config_drive", self._config_drive)
        self.bus.answer("host.look", self._look_for, roles=("api",))
        metrics.gauge("kilonova_debts_open", "Debts that wait to be paid.").follow(self._count_debts)
        metrics.gauge("kilonova_operations_active", "Operations at work here.").follow(self._count_open)
        metrics.gauge("kilonova_operations_stuck", "Operations stopped by a replay mismatch.").follow(self._count_stuck)
        loop = asyncio.get_running_loop()
        self._tasks = [
            *(loop.create_task(self._every(_POLL_S, each.poll), name="conductor poll") for each in self.executors),
            loop.create_task(self._every(_DEBT_S, self._pay), name="conductor debts"),
            loop.create_task(self.indebted.run(), name="hosts with debts"),
            loop.create_task(self._every(_FORGET_S, self._send_forget), name="conductor forget"),
            *([] if self._alone else [
                *(loop.create_task(self._every(_POLL_S, each), name="owner's beat") for each in self._own()),
                loop.create_task(self._every(beats.WRITE_S, self.own_beats.write), name="conductor beats"),
                loop.create_task(self.beats.run(), name="beats of others"),
            ]),
            loop.create_task(self._every(_RETIRE_S, self.housekeeping.retire), name="conductor retention"),
            loop.create_task(self._every(_SWEEP_S, self.housekeeping.sweep), name="conductor sweep"),
        ]

    async def stop(self) -> None:
        """Stop in the middle of whatever runs; the journal goes on elsewhere or at the next start."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for executor in self.executors:
            await executor.stop()
        for owner in self.owners:
            await owner.leave()

    async def _every(self, seconds: float, work: Callable[[], Any]) -> None:
        while True:
            try:
                await work()
            except DatabaseError as error:
                log.warning("conductor: %s", error)
            except Exception:
                log.exception("conductor round failed")
            await asyncio.sleep(seconds)

    def _own(self) -> Iterator[Callable[[], Awaitable[None]]]:
        """The rounds of owners, each by itself: a database that is slow does not silence us in another."""
        for owner, executor in zip(self.owners, self.executors, strict=True):
            yield partial(_beat, owner, executor)

    def _count_debts(self) -> float:
        return float(sum(reconciler.open for reconciler in self.reconcilers))

    def _count_open(self) -> float:
        return float(sum(len(executor.active) for executor in self.executors))

    def _count_stuck(self) -> float:
        return float(sum(len(executor.stuck) for executor in self.executors))

    async def _pay(self) -> None:
        for reconciler in self.reconcilers:
            await reconciler.pay()

    # results that hosts need keep no longer

    def _ended(self, run: Run) -> None:
        if any(known.state == "debt" for known in run.known.values()):
            self.indebted.look()
        if run.row.target is None or run.row.story == "delete":
            return  # the host forgets a deleted server by itself
        for known in run.known.values():
            if known.kind == "call" and known.port.startswith("host:"):
                keys = self._forget.setdefault(known.port[5:], {}).setdefault(run.row.target, set())
                keys.add(f"{run.row.id}/{known.name}/{known.item}")

    async def _send_forget(self) -> None:
        waiting, self._forget = self._forget, {}
        for host, servers in waiting.items():
            items = tuple(Forgotten(server=s, keys=tuple(k)) for s, k in servers.items())
            with suppress(BusError):  # a host that misses it drops results by age
                await self.bus.call(host, Method.FORGET, _encode(ForgetArgs(items=items)), ttl=2.0)

    async def look(self, host: str, method: str, args: bytes) -> bytes:
        """Ask a host something that changes nothing (its console log). Raises ConnectionError."""
        command = Command(server="", fence=Fence(0, 0), key="", method=method, args=msgspec.Raw(args))
        asked = msgspec.json.decode(args, type=dict[str, Any])
        if "server" in asked:
            command = msgspec.structs.replace(command, server=asked["server"])
        try:
            answer = await self.bus.call(host, method, _encode(command), ttl=15.0)
        except BusError as error:
            raise ConnectionError(f"host {host}: {error}") from None
        if isinstance(answer, Accepted):
            raise ConnectionError(f"host {host} is busy")
        result = msgspec.json.decode(answer.payload, type=StepResult)
        if not result.ok:
            raise ConnectionError(f"host {host}: {result.message}")
        return bytes(result.output)

    # what the API asks

    async def _look_for(self, sender: Sender, payload: bytes) -> bytes:
        asked = msgspec.json.decode(payload, type=Look)
        if asked.method not in LOOKS:
            raise RemoteError("forbidden", f"{asked.method} is not a look")
        try:
            return await self.look(asked.host, asked.method, bytes(asked.args))
        except ConnectionError as error:
            raise RemoteError("unreachable", str(error)) from None

    # what hosts ask

    async def _config_drive(self, sender: Sender, payload: bytes) -> bytes:
        uuid = msgspec.json.decode(payload)["server"]
        for database in self._cells:
            row = await database.fetch_one(server_state.SELECT, {"uuid": uuid})
            if row is None:
                continue
            server = Server(**dict(zip(server_state.COLUMNS, row, strict=True)))
            if server.host is None or not sender.may_speak_for(server.host):
                raise RemoteError("forbidden", "the server is not on this host")
            return _encode(config_drive(server))
        raise RemoteError("refused", f"there is no server {uuid}")


async def _beat(owner: Ownership, executor: Executor) -> None:
    for operation_id in await owner.beat():
        executor.poke(operation_id)
