"""What hosts report becomes rows: who they are, what runs on them, what is no longer there.

Reports are levels: applied if newer than what this host said before, committed before they are
acknowledged. A host speaks only for itself (checked by the bus). Guests change power_state; a running
server whose guest has stopped by itself is stopped by an operation, recorded with its cause.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, NamedTuple
from uuid import NAMESPACE_URL, uuid4, uuid5

import msgspec

from kilonova.bus.api import RemoteError, Sender
from kilonova.conductor.host_port import HostPort
from kilonova.db.database import Database, Tx
from kilonova.db.queries import host_reports as sql
from kilonova.db.queries import server_state, services
from kilonova.db.queries.operations import open_operation
from kilonova.db.statement import Value
from kilonova.log import get_logger
from kilonova.model.command import HostBeats, HostReport
from kilonova.model.guest import GuestFact
from kilonova.model.operation import NewOperation, StopInputs
from kilonova.model.placement import HostReport as HostRecord
from kilonova.model.placement import Ratios
from kilonova.model.power import PowerState
from kilonova.placement.inventory import record_hosts

log = get_logger(__name__)
_beats = msgspec.json.Decoder(HostBeats)
_OFF = (PowerState.SHUTDOWN, PowerState.CRASHED)


class Reports:
    """Applies the reports that reach this conductor."""

    def __init__(
        self,
        global_: Database,
        cell: Callable[[str], tuple[str, Database]],
        hosts: HostPort,
        *,
        ratios: Ratios,
        beat: Callable[[tuple[str, ...], str, int], None],
        wake: Callable[[str], None],
        now_us: Callable[[], int],
    ) -> None:
        """`cell(host)`: the name and database of the cell a host is in; `beat(hosts, incarnation, counter)`."""
        self._global, self._cell, self._hosts = global_, cell, hosts
        self._ratios, self._beat, self._wake, self._now = ratios, beat, wake, now_us
        self._members: dict[str, tuple[str, tuple[str, ...]]] = {}
        self._seen: dict[str, tuple[str, int]] = {}
        self._full: dict[str, _Full] = {}
        """The last full report of each host."""
        self.unknown_guests: dict[tuple[str, str], GuestFact] = {}
        """Guests that a host shows and no record owns, for `doctor`: (host, uuid) -> fact."""

    async def take(self, sender: Sender, payload: bytes) -> None:
        """Handle one envelope; returning acknowledges it."""
        beats = _beats.decode(payload)
        if beats.process != sender.name or not all(map(sender.may_speak_for, beats.hosts or ())):
            raise RemoteError("forbidden", f"{sender.name} may not speak for these hosts")
        if beats.hosts is not None:
            self._members[beats.process] = (beats.members, beats.hosts)
        members = self._members.get(beats.process)
        if members is None or members[0] != beats.members:
            raise RemoteError("unknown_members", "tell who you are", True)
        self._beat(members[1], beats.incarnation, beats.beat)
        reports = [r for r in beats.reports if sender.may_speak_for(r.host) and self._newer(r)]
        if not reports:
            return
        await self._record(reports)
        for report in reports:
            if report.full or report.guests or report.gone:
                await self._apply(report)
            for result in report.results:
                self._hosts.deliver(result)
            self._seen[report.host] = (report.incarnation, report.seq)

    def _newer(self, report: HostReport) -> bool:
        seen = self._seen.get(report.host)
        return seen is None or (report.incarnation, report.seq) > seen

    async def _record(self, reports: list[HostReport]) -> None:
        """Rows, providers and inventories of hosts that tell their facts."""
        now = self._now()
        records = [
            HostRecord(
                uuid=host_uuid(r.host), host=r.host, node=r.facts.hostname, cell=self._cell(r.host)[0],
                facts=r.facts, now=now,
            )
            for r in reports if r.facts is not None
        ]  # fmt: skip
        if records:
            await self._global.write(_record, (records, self._ratios, now))

    async def _apply(self, report: HostReport) -> None:
        _, database = self._cell(report.host)
        facts = {g.uuid: g for g in report.guests}
        before = self._full.get(report.host)
        now = self._now()
        opened = await database.write(_levels, (report, facts, before, now))
        if report.full:
            powers = {guest.uuid: int(guest.power_state) for guest in report.guests}
            self._full[report.host] = _Full(powers or _NOTHING, report.busy, now)
        for operation_id in opened:
            self._wake(operation_id)
        if report.full:
            await self._note_unknown(report, database)

    async def _note_unknown(self, report: HostReport, database: Database) -> None:
        for key in [k for k in self.unknown_guests if k[0] == report.host]:
            del self.unknown_guests[key]
        for guest in report.guests:
            if await database.fetch_one(sql.KNOWN, {"uuid": guest.uuid}) is None:
                self.unknown_guests[report.host, guest.uuid] = guest
                log.warning("host %s shows guest %s, which no server owns", report.host, guest.uuid)


def host_uuid(host: str) -> str:
    """A host's id, and its resource provider's: the same however often it is seen for the first time."""
    return str(uuid5(NAMESPACE_URL, f"kilonova:host:{host}"))


async def _record(tx: Tx, args: tuple[list[HostRecord], Ratios, int]) -> None:
    records, ratios, now = args
    await record_hosts(tx, records, ratios)
    cells = {record.host: record.cell for record in records}
    for host in await services.without(tx, sorted(cells), "nova-compute"):
        await services.enter(tx, host, "nova-compute", cells[host], now)


class _Full(NamedTuple):
    """What is kept of a full report: power states by server, servers under change, when it came in microseconds."""

    powers: dict[str, int]
    busy: Collection[str]
    came: int


_NOTHING: dict[str, int] = {}
"""Of all hosts without guests: there may be ten thousand."""


def _said_before(before: _Full | None, uuid: str, fact: GuestFact | None, changed: int) -> bool:
    """Whether the full report before this one said the same of a server as it still stood then.

    A host looks anew only after its last report was acknowledged: so this report's look came after `changed` too.
    """
    if before is None or uuid in before.busy or changed >= before.came:
        return False
    return before.powers.get(uuid) == (int(fact.power_state) if fact else None)


async def _levels(tx: Tx, args: tuple[HostReport, dict[str, GuestFact], _Full | None, int]) -> list[str]:
    """Bring power states in line with what the host sees; the operations opened for guests that stopped.

    What the host saw before a command that we know to be done is not believed. Of a server that the host has no
    record of, a full report is believed only when the one before said the same.
    """
    report, facts, before, now = args
    opened: list[str] = []
    rows: list[tuple[Any, ...]] = []
    if report.full:
        rows = list(await tx.fetch(sql.ON_HOST, {"host": report.host}))
    else:
        for uuid in (*facts, *report.gone):
            row = await tx.fetch_one(sql.ONE, {"uuid": uuid})
            if row is not None and row[0] == report.host:
                rows.append((uuid, *row[1:]))
    for uuid, vm_state, task_state, power_state, generation, host_number, changed in rows:
        if vm_state == "building" or task_state is not None or uuid in report.busy:
            continue
        number = report.numbers.get(uuid)
        fact = facts.get(uuid)
        if number < host_number if number is not None else not _said_before(before, uuid, fact, changed):
            continue
        power = fact.power_state if fact is not None else PowerState.NOSTATE
        if int(power) != power_state:
            params: dict[str, Value] = {
                "uuid": uuid, "generation": generation, "host": report.host, "power_state": int(power), "now": now,
            }  # fmt: skip
            if not await tx.execute(sql.POWER, params):
                continue  # it was changed since it was read: the next report tells it
            generation += 1
            await server_state.emit_state(tx, uuid, now)
        if vm_state == "active" and power in _OFF:
            operation_id = await _open_stop(tx, uuid, generation, now)
            if operation_id is not None:
                opened.append(operation_id)
    return opened


async def _open_stop(tx: Tx, uuid: str, generation: int, now: int) -> str | None:
    """The guest stopped by itself: record it as a stop, so that the server shows SHUTOFF (Nova's power sync).

    None when the server was changed since `generation`: whoever did so has the word.
    """
    operation_id, request_id = str(uuid4()), f"req-{uuid4()}"
    params: dict[str, Value] = {"uuid": uuid, "generation": generation, "operation_id": operation_id, "now": now}
    if not await tx.execute(sql.STOPPED, params):
        return None
    server = await server_state.load(tx, uuid)
    assert server is not None
    number = server.next_number - 1
    await server_state.emit_state(tx, uuid, now)
    before = {"vm_state": "active", "task_state": None, "power_state": server.power_state}
    await open_operation(
        tx,
        NewOperation(
            id=operation_id, story="stop", target=uuid, number=number,
            inputs=msgspec.json.encode(StopInputs(server=uuid, graceful_s=0)),
            before=msgspec.json.encode(before).decode(), request_id=request_id, user_id=server.user_id,
            project_id=server.project_id, created_at=now,
        ),
    )  # fmt: skip
    await tx.execute(
        server_state.START_ACTION,
        {
            "id": operation_id, "server": uuid, "request_id": request_id, "action": "stop", "user_id": server.user_id,
            "project_id": server.project_id, "started": now, "now": now,
        },
    )  # fmt: skip
    return operation_id
