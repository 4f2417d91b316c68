"""Pays debts: what an operation could not undo when it ended (contracts: 1.10).

A debt is a call that makes something absent, under the fence its operation had. Paying it again is
harmless. Only then what it still used (addresses, the claim) is given back.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
from msgspec import Struct

from kilonova.conductor.errors import Lost, StepError
from kilonova.conductor.ports import CallContext, Ports
from kilonova.conductor.story import Context
from kilonova.db.database import Database, Tx
from kilonova.db.errors import DatabaseError
from kilonova.db.queries import host_debts
from kilonova.db.queries import journal as sql
from kilonova.log import get_logger
from kilonova.model.command import Fence

log = get_logger(__name__)


_MARK_S = 5.0
_SUPERSEDED = frozenset({"power", "fence"})
"""What nobody wants any more once a later operation commands the guest."""


class _Call(Struct):
    port: str
    method: str
    args: msgspec.Raw = msgspec.Raw(b"null")
    resource: str = ""
    keeps: tuple[_Call, ...] = ()


class _Payload(Struct):
    undo: _Call
    server: str | None
    number: int
    epoch: int
    key: str


_payload = msgspec.json.Decoder(_Payload)


class Reconciler:
    """Pays the debts of one database."""

    def __init__(
        self, database: Database, ports: Ports, now_us: Callable[[], int], paid: Callable[[], None] = lambda: None
    ) -> None:
        """`paid` is called when debts were paid."""
        self._database, self._ports, self._now, self._paid = database, ports, now_us, paid
        self.open = 0
        """Debts left after the last round, for metrics and `doctor`."""

    async def pay(self) -> int:
        """Try every open debt once; how many were paid."""
        rows = await self._database.fetch(sql.OPEN_DEBTS, {"limit": 100})
        paid = 0
        for debt_id, operation_id, _step, holder, _kind, _resource, payload, _attempts in rows:
            facts = _payload.decode(payload)
            try:
                await self._perform(facts.undo, facts, operation_id, facts.key)
                for n, kept in enumerate(facts.undo.keeps):
                    await self._perform(kept, facts, operation_id, f"{facts.key}/keeps/{n}")
            except Lost as error:
                if facts.undo.resource not in _SUPERSEDED:
                    await self._database.write(_write, (sql.TRY_DEBT, debt_id, str(error), self._now(), ""))
                    continue
                # A later operation commands the guest: what this one owed is no longer wanted.
                log.info("debt of operation %s at %s is superseded", operation_id, holder)
            except StepError as error:
                await self._database.write(_write, (sql.TRY_DEBT, debt_id, str(error), self._now(), ""))
                continue
            await self._database.write(_write, (sql.PAY_DEBT, debt_id, "", self._now(), "paid"))
            log.info("debt of operation %s at %s is paid", operation_id, holder)
            paid += 1
        self.open = len(rows) - paid
        if paid:
            self._paid()
        return paid

    async def _perform(self, call: _Call, facts: _Payload, operation_id: str, key: str) -> None:
        context = Context(operation_id, "", "", "", self._now(), self._database.dialect)
        fence = Fence(facts.number, facts.epoch, 1)
        await self._ports.perform(
            call.port, call.method, bytes(call.args), CallContext(key, facts.server, fence, context, True)
        )


class Indebted:
    """Keeps the mark of hosts with debts true, so that schedulers send them no new guests. `run` must be running."""

    def __init__(self, global_: Database, databases: tuple[Database, ...], now_us: Callable[[], int]) -> None:
        self._global, self._databases, self._now = global_, databases, now_us
        self._due = asyncio.Event()

    def look(self) -> None:
        """Debts came or went."""
        self._due.set()

    async def run(self) -> None:
        """Look when told, and every few seconds: others make and pay debts too."""
        while True:
            self._due.clear()
            try:
                await self.mark()
            except DatabaseError as error:
                log.warning("hosts with debts are not marked: %s", error)
            with suppress(TimeoutError):
                async with asyncio.timeout(_MARK_S):
                    await self._due.wait()

    async def mark(self) -> None:
        """Bring the marks in line with the debts of every database. Raises DatabaseError."""
        owed: Counter[str] = Counter()
        for database in self._databases:
            owed.update(await host_debts.owed(database))
        marked = await host_debts.marked(self._global)
        differ = {host: owed[host] for host in owed.keys() | marked.keys() if owed[host] != marked.get(host, 0)}
        if differ:
            await self._global.write(_mark, (differ, self._now()))


async def _mark(tx: Tx, args: tuple[dict[str, int], int]) -> None:
    await host_debts.mark(tx, *args)


async def _write(tx: Tx, args: tuple[Any, str, str, int, str]) -> None:
    statement, debt_id, error, now, state = args
    facts: dict[str, Any] = {"id": debt_id, "error": error or None, "now": now}
    if state:
        facts["state"] = state
    await tx.execute(statement, facts)
