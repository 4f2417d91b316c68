"""Pays debts: what an operation could not undo when it ended (contracts: 1.10).

A debt is a call that makes something absent, under the fence its operation had. Paying it again is
harmless, also for several conductors at once. Only then what it still used (addresses, the claim) is given back,
and only by the last of the debts that use it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
from msgspec import Struct

from kilonova.conductor.errors import Lost, Refused, StepError
from kilonova.conductor.ports import CallContext, Ports
from kilonova.conductor.story import Context
from kilonova.db.database import Database, Tx
from kilonova.db.errors import DatabaseError
from kilonova.db.queries import host_debts
from kilonova.db.queries import journal as sql
from kilonova.db.statement import Statement
from kilonova.log import get_logger
from kilonova.model.command import Fence

log = get_logger(__name__)


_BUDGET_S = 20.0
_AT_ONCE = 16
_A_ROUND = 20
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


class _Debt(Struct):
    """A row of `OPEN_DEBTS`."""

    id: str
    operation_id: str
    resource: str
    payload: str
    attempts: int
    epoch: int
    """The highest its operation had: no call of its own fences the payment."""


_payload = msgspec.json.Decoder(_Payload)


class Reconciler:
    """Pays the debts of one database: of each holder some a round, those first that were tried least."""

    def __init__(
        self, database: Database, ports: Ports, now_us: Callable[[], int], paid: Callable[[], None] = lambda: None
    ) -> None:
        """`paid` is called when debts were paid."""
        self._database, self._now, self._paid = database, now_us, paid
        self.ports = ports
        self.open = 0
        """Debts left after the last round, for metrics and `doctor`."""
        self.budget_s = _BUDGET_S
        """What one payment may take."""

    async def pay(self) -> int:
        """Try the open debts once, those of one holder one after the other; how many were paid."""
        holders = await self._database.fetch(host_debts.OPEN, {})
        turns = asyncio.Semaphore(_AT_ONCE)

        async def of(holder: str) -> int:
            async with turns:
                return await self._pay_holder(holder)

        paid = sum(await asyncio.gather(*(of(holder) for holder, _ in holders)))
        self.open = sum(n for _, n in holders) - paid
        await self._let_go()
        if paid:
            self._paid()
        return paid

    async def _pay_holder(self, holder: str) -> int:
        paid = 0
        for row in await self._database.fetch(sql.OPEN_DEBTS, {"holder": holder, "limit": _A_ROUND}):
            debt = _Debt(*row)
            try:
                async with asyncio.timeout(self.budget_s):
                    await self._pay_one(holder, debt)
            except (Refused, Lost) as error:
                await self._database.write(_write, (sql.TRY_DEBT, debt.id, str(error), self._now(), ""))
            except (StepError, TimeoutError) as error:
                why = str(error) or f"no answer in {self.budget_s:g} s"
                await self._database.write(_write, (sql.NOTE_DEBT, debt.id, why, self._now(), ""))
                break  # the holder is away: the others can wait
            else:
                paid += 1
        return paid

    async def _pay_one(self, holder: str, debt: _Debt) -> None:
        """Raises StepError, Lost (a later operation has the word)."""
        facts = _payload.decode(debt.payload)
        # A host keeps a refusal under its key: after each there is a new one. What it is at work on is joined.
        key = f"{facts.key}/{debt.attempts}"
        try:
            await self._perform(facts.undo, facts, debt, key, Fence(facts.number, max(facts.epoch, debt.epoch), 1))
        except Lost:
            if facts.undo.resource in _SUPERSEDED:
                await self._database.write(_write, (sql.PAY_DEBT, debt.id, "superseded", self._now(), "paid"))
                log.info("debt of operation %s at %s is superseded", debt.operation_id, holder)
                return
            fence = await self._authority(facts, holder)
            if fence is None:
                raise
            await self._perform(facts.undo, facts, debt, f"{key}/late", fence)
        await self._close(debt, facts, sql.PAY_DEBT)
        log.info("debt of operation %s at %s is paid", debt.operation_id, holder)

    async def _close(self, debt: _Debt, facts: _Payload, statement: Statement) -> None:
        """End a debt; the last of those that keep the same for a server gives it back before."""
        ended = (debt.id, debt.resource, bool(facts.undo.keeps), statement, self._now())
        if await self._database.write(_hand_over, ended):
            return
        for n, kept in enumerate(facts.undo.keeps):
            key = f"{facts.key}/keeps/{n}"
            await self._perform(kept, facts, debt, key, Fence(facts.number, facts.epoch, 1))
        await self._database.write(_write, (statement, debt.id, "", self._now(), "paid"))

    async def _let_go(self) -> None:
        """What an admin wrote off keeps nothing any more."""
        for row in await self._database.fetch(sql.WRITTEN_OFF, {"limit": _A_ROUND}):
            debt = _Debt(*row)
            try:
                async with asyncio.timeout(self.budget_s):
                    await self._close(debt, _payload.decode(debt.payload), sql.LET_GO)
            except (StepError, Lost, TimeoutError) as error:
                log.warning("what the written-off debt %s kept is not given back: %s", debt.id, error)

    async def _authority(self, facts: _Payload, holder: str) -> Fence | None:
        """The word that is above all operations the server had and below the next one it may get.

        None while a later operation has the word: the server lives on this very host, or is being worked on.
        """
        key = {"server": facts.server}
        row = await self._database.fetch_one(sql.HOME, key)
        if row is None:
            row = await self._database.fetch_one(sql.LAST_HOME, key)
            return Fence(max(facts.number + 1, row[1] if row is not None else 0), 0, 1)
        if f"host:{row[0]}" == holder or await self._database.fetch_one(sql.LANE_IS_OPEN, key) is not None:
            return None
        return Fence(row[1], 0, 1)

    async def _perform(self, call: _Call, facts: _Payload, debt: _Debt, key: str, fence: Fence) -> None:
        context = Context(debt.operation_id, "", "", "", self._now(), self._database.dialect)
        await self.ports.perform(
            call.port, call.method, bytes(call.args), CallContext(key, facts.server, fence, context, True)
        )


async def _hand_over(tx: Tx, args: tuple[str, str, bool, Statement, int]) -> bool:
    """End a debt whose `keeps` another one of the same server still needs, and releases when it is paid itself.

    All of the server's open debts are locked first, so that of several that are paid at once one is the last.
    """
    debt_id, resource, keeps, statement, now = args
    if not keeps:
        return False
    await tx.execute(sql.LOCK_DEBTS, {"resource": resource, "now": now})
    for other, payload in await tx.fetch(sql.DEBTS_OF, {"resource": resource}):
        if other != debt_id and _payload.decode(payload).undo.keeps:
            await tx.execute(statement, {"id": debt_id, "state": "paid", "error": None, "now": now})
            return True
    return False


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
