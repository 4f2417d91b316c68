"""Runs operations: takes them, commits their boundaries, performs their calls, undoes, records debts.

One task per operation that has something to do; an operation that waits for an event or a timer has
none. Any conductor may lose an operation at any moment (superseded, taken over): it finds out at its
next boundary and drops it. Knows stories only as requests and ports only by name.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec

from kilonova import metrics
from kilonova.conductor import boundary as commit
from kilonova.conductor.boundary import Boundary, WriteRefused, commit_boundary
from kilonova.conductor.errors import Lost, Refused, ReplayMismatch, StepError, Transient, UnknownEffect
from kilonova.conductor.ports import CallContext, Ports
from kilonova.conductor.run import Known, Row, Run, prepare, refusal_json
from kilonova.conductor.story import STORIES, Context, Step, Undo, encode
from kilonova.db.database import Database, Tx
from kilonova.db.errors import BadParameter, DatabaseError, UniqueViolation
from kilonova.db.queries import journal as sql
from kilonova.db.queries import server_state
from kilonova.db.statement import Value
from kilonova.log import bound, get_logger
from kilonova.model.command import Fence

log = get_logger(__name__)

_ENDED = metrics.counter("kilonova_operations_total", "Operations that ended.", ("story", "state"))
_SECONDS = metrics.histogram(
    "kilonova_operation_seconds", "Time from an operation's request to its end.", ("story",)
)
_BACKOFF_S = (0.05, 0.2, 0.5, 1.0, 2.0, 5.0)
_UNDO_BUDGET_S = 20.0
_LEAST_S = 5.0
"""What even a call whose budget is spent gets for its one more try."""
_SAVE_S = 10.0
"""How often the seconds spent on a call are saved while it lasts."""
_ACCEPTED = 3
"""How many budgets a host gets that has said that it works on a command."""
_PAGE = 200


class Executor:
    """The operations of one database, as one conductor incarnation runs them."""

    def __init__(
        self,
        database: Database,
        ports: Ports,
        me: str,
        *,
        name: str,
        together: frozenset[str] = frozenset(),
        wake: Callable[[str], None],
        now_us: Callable[[], int],
        may_act: Callable[[], bool] = lambda: True,
        on_end: Callable[[Run], None] | None = None,
    ) -> None:
        """`wake(operation id)` tells conductors of new work; `may_act` is False while our beat is late."""
        self.database, self.ports, self.me, self.name, self.together = database, ports, me, name, together
        self.active: dict[str, asyncio.Task[None]] = {}
        self.stuck: dict[str, str] = {}
        """Operations stopped here for good, with why: shown as an alarm."""
        self.undo_budget_s, self.least_s, self.save_s = _UNDO_BUDGET_S, _LEAST_S, _SAVE_S
        self.budget_scale = 1.0
        """Tests shrink every step's budget with it."""
        self.backoff_s = _BACKOFF_S
        self._again: set[str] = set()
        self._wake, self._now, self._may_act, self._on_end = wake, now_us, may_act, on_end
        self._stopping = False
        self._waiting: dict[str, asyncio.TimerHandle] = {}

    # taking work

    def poke(self, operation_id: str) -> None:
        """There may be something to do for this operation; runs it unless it runs already."""
        if self._stopping or operation_id in self.stuck:
            return
        if operation_id in self.active:
            self._again.add(operation_id)
            return
        timer = self._waiting.pop(operation_id, None)
        if timer is not None:
            timer.cancel()
        task = asyncio.get_running_loop().create_task(self._run(operation_id), name=f"operation {operation_id}")
        self.active[operation_id] = task
        task.add_done_callback(lambda _: self._finished(operation_id))

    def _finished(self, operation_id: str) -> None:
        self.active.pop(operation_id, None)
        if operation_id in self._again:
            self._again.discard(operation_id)
            self.poke(operation_id)

    async def poll(self) -> None:
        """Find work by reading the database: what nobody has, and what is mine and due."""
        page: dict[str, Value] = {"after": 0, "after_id": "", "limit": _PAGE}
        while rows := await self.database.fetch(sql.FRESH, page):
            for operation_id, story, version, created_at in rows:
                if (story, version) in STORIES:
                    self.poke(operation_id)
                page |= {"after": created_at, "after_id": operation_id}
            if len(rows) < _PAGE:
                break
        mine: dict[str, Value] = {"owner": self.me, "now": self._now()}
        for due in (sql.MINE_DUE, sql.MINE_SIGNALLED):
            for (operation_id,) in await self.database.fetch(due, mine):
                if operation_id not in self.active:
                    self.poke(operation_id)
        for operation_id in list(self.stuck):
            if await self.database.fetch_one(sql.IS_OPEN, {"id": operation_id}) is None:
                del self.stuck[operation_id]

    async def stop(self) -> None:
        """Stop where we are; whoever owns us next goes on from the journal."""
        self._stopping = True
        for timer in self._waiting.values():
            timer.cancel()
        self._waiting.clear()
        tasks = list(self.active.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def idle(self) -> None:
        """Return once no operation has a task (tests and shutdown)."""
        while self.active:
            await asyncio.wait(list(self.active.values()))

    # running one

    async def _run(self, operation_id: str) -> None:
        try:
            run = await self._load(operation_id)
            if run is not None:
                with bound(operation_id=operation_id, request_id=run.row.request_id, instance=run.row.target):
                    await self._drive(run)
        except Lost:
            log.debug("operation %s is no longer ours", operation_id)
        except ReplayMismatch as error:
            self.stuck[operation_id] = str(error)
            log.error("operation %s stopped: %s", operation_id, error)
        except DatabaseError as error:
            log.warning("operation %s pauses: %s", operation_id, error)
            self._sleep(operation_id, 1.0)
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("operation %s: the executor failed; it is tried again", operation_id)
            self._sleep(operation_id, 5.0)

    def _sleep(self, operation_id: str, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self._waiting[operation_id] = loop.call_later(max(0.0, seconds), self._due, operation_id)

    def _due(self, operation_id: str) -> None:
        self._waiting.pop(operation_id, None)
        self.poke(operation_id)

    async def _load(self, operation_id: str) -> Run | None:
        facts = await self.database.fetch_one(sql.LOAD, {"id": operation_id})
        if facts is None:
            return None
        row = Row(*facts)  # the struct's fields are the statement's columns
        if row.ended_at is not None or row.superseded or row.owner not in (None, self.me):
            return None
        story = STORIES.get((row.story, row.version))
        if story is None:
            return None  # a conductor takes only what it has
        steps = [_known(s) for s in await self.database.fetch(sql.STEPS, {"id": operation_id})] if row.owner else []
        run = Run(row, story, steps, self.name, self.together)
        if steps and story.on_undone != "none":
            event = await self.database.fetch_one(server_state.OPEN_EVENT, {"id": operation_id})
            run.event = event[0] if event is not None else None
        return run

    async def _drive(self, run: Run) -> None:
        while True:
            if run.state in ("ready", "running") and await self._ask_first(run):
                continue
            b = await self._boundary(run)
            if run.ended is not None or run.state in ("done", "undone"):
                await self._end(run)
                return
            if run.state == "undoing":
                await self._undo_next(run)
                continue
            steps = b.calls + b.asks
            if steps:
                if len(steps) == 1:
                    await self._perform(run, steps[0])
                else:
                    await self._perform_all(run, steps)
                continue
            if b.wait is not None and not await self._signalled(run, b.wait):
                return

    async def _perform_all(self, run: Run, steps: list[Step]) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for step in steps:
                    group.create_task(self._perform(run, step))
        except BaseExceptionGroup as several:
            lost, others = several.split(Lost)
            if lost is None or others is not None:
                raise
        else:
            return
        raise Lost(run.row.id)

    async def _ask_first(self, run: Run) -> bool:
        """Questions before the first effect of a boundary need no commit of their own."""
        run.advance()
        request = run.current
        if not isinstance(request, Step) or request.kind != "ask":
            return False
        await self._perform(run, prepare(request))
        return True

    async def _boundary(self, run: Run) -> Boundary:
        refused: dict[tuple[str, str], Refused] = {}
        while True:
            if not self._may_act():
                raise Lost(run.row.id)
            fresh = run.row.owner is None
            b = Boundary(run, self.me, self._now(), fresh, dict(refused))
            try:
                await self.database.write(commit_boundary, b)
            except WriteRefused as error:
                commit.rewind(b)
                refused[error.step.key] = error.error
                continue
            except UniqueViolation:
                if await self._taken(run):
                    raise Lost(run.row.id) from None
                raise
            except BadParameter as error:
                if b.writing is None:
                    raise
                commit.rewind(b)
                refused[b.writing.key] = commit.internal(error)
                continue
            # Whatever else it is, this walk is thrown away as it stands: when a task is cancelled in its commit,
            # the writer thread may be in the middle of it.
            if fresh:
                run.row.owner, run.row.epoch = self.me, run.row.epoch + 1
            for opened in b.opened:
                self._wake(opened)
            return b

    async def _taken(self, run: Run) -> bool:
        """Whether another conductor was faster: its records are then in the way of ours."""
        facts = await self.database.fetch_one(sql.LOAD, {"id": run.row.id})
        if facts is None:
            return True
        row = Row(*facts)
        return row.ended_at is not None or (row.owner, row.epoch) != (run.row.owner, run.row.epoch)

    async def _end(self, run: Run) -> None:
        _ENDED.labels(run.row.story, run.state).inc()
        _SECONDS.labels(run.row.story).observe((self._now() - run.row.created_at) / 1e6)
        if self._on_end is not None:
            self._on_end(run)
        if run.row.target is not None:
            row = await self.database.fetch_one(sql.HAS_LANE_MATES, {"target": run.row.target})
            if row is not None:
                self._wake(row[0])

    # calls

    def _context(self, run: Run, key: str, undo: bool) -> CallContext:
        row = run.row
        fence = Fence(row.number, row.epoch, 1 if undo else 0)
        context = Context(row.id, row.request_id, row.user_id, row.project_id, self._now(), self.database.dialect)
        return CallContext(key, row.target, fence, context, undo)

    async def _perform(self, run: Run, step: Step) -> None:
        """Perform a committed intent (or a question) until it is done, refused, or its budget is spent."""
        known = run.known.get(step.key)
        if known is None:
            known = run.intend(step, self._now())
        call = self._context(run, f"{run.row.id}/{step.name}/{step.item}", False)
        started = time.monotonic()
        budget = step.budget_s * self.budget_scale - known.spent_us / 1e6
        try:
            known.output = await self._try(run, known, step.port, step.method, step.encoded, call, budget)
            known.state = "done"
        except Refused as error:
            known.state, known.error = "refused", refusal_json(error)
            if step.owe:
                owed = Undo(step.port, step.method, step.args, step.resource, step.keeps)
                known.state, known.undo = "debt", encode(owed)
                known.undo_failed = f"{error.code}: {error.message} {error.details}".strip()
        spent_us = int((time.monotonic() - started) * 1e6)
        known.spent_us += spent_us
        run.row.spent_us += spent_us
        known.dirty = True

    async def _try(
        self, run: Run, known: Known, port: str, method: str, args: bytes, call: CallContext, budget_s: float
    ) -> bytes:
        started = saved = time.monotonic()
        deadline = started + budget_s
        while True:
            if not self._may_act():
                raise Lost(call.context.operation_id)
            known.attempts += 1
            try:
                return await self._once(port, method, args, call, deadline - time.monotonic(), budget_s)
            except (Transient, UnknownEffect) as error:
                delay = self.backoff_s[min(known.attempts, len(self.backoff_s)) - 1]
                now = time.monotonic()
                if now + delay > deadline:
                    code = "unknown" if isinstance(error, UnknownEffect) else "unavailable"
                    details = f"gave up after {known.attempts} tries: {error.details}"
                    raise Refused(error.message, code, details) from error
                await asyncio.sleep(delay)
                await self._still_mine(run)
                if now - saved >= self.save_s and not call.undo:
                    saved = now
                    await self._save_spent(run, known, known.spent_us + int((now - started) * 1e6))
            except Refused:
                raise
            except StepError as error:
                raise Refused(error.message, error.code, error.details) from error
            except (asyncio.CancelledError, Lost):
                raise
            except Exception as error:
                log.exception("port %s %s failed in operation %s", port, method, call.context.operation_id)
                raise commit.internal(error) from error

    async def _once(
        self, port: str, method: str, args: bytes, call: CallContext, left_s: float, budget_s: float
    ) -> bytes:
        """One try, which ends with its budget (thrice that where a host is at work on it): silence is no answer."""
        if math.isinf(left_s):
            return await self.ports.perform(port, method, args, call)
        loop = asyncio.get_running_loop()
        at = loop.time() + max(left_s, self.least_s)

        def longer() -> None:
            limit.reschedule(at + (_ACCEPTED - 1) * max(budget_s, self.least_s))

        try:
            async with asyncio.timeout_at(at) as limit:
                return await self.ports.perform(port, method, args, replace(call, accepted=longer))
        except TimeoutError:
            if not limit.expired():
                raise
            raise UnknownEffect("It did not end in time.", "unknown", f"{port} {method} did not answer") from None

    async def _still_mine(self, run: Run) -> None:
        """Before a call is tried again: who lost its operation meanwhile stops (a neighbour has no fence for it)."""
        mine: dict[str, Value] = {"id": run.row.id, "me": self.me, "epoch": run.row.epoch}
        try:
            if run.row.owner is not None and await self.database.fetch_one(sql.STILL_MINE, mine) is None:
                raise Lost(run.row.id)
        except DatabaseError as error:
            log.debug("cannot look whether %s is still ours: %s", run.row.id, error)

    async def _save_spent(self, run: Run, known: Known, spent_us: int) -> None:
        facts: dict[str, Value] = {
            "id": run.row.id, "me": self.me, "epoch": run.row.epoch, "name": known.name, "item": known.item,
            "attempts": known.attempts, "spent_us": spent_us,
        }  # fmt: skip
        try:
            await self.database.write(_spent, facts)
        except DatabaseError as error:
            log.debug("seconds spent by %s are not saved: %s", run.row.id, error)

    async def _undo_next(self, run: Run) -> None:
        """Undo the newest step that still needs it; what cannot be undone now becomes a debt."""
        known = run.undoable()[0]
        undo = msgspec.json.decode(known.undo)
        call = self._context(run, f"{run.row.id}/{known.name}/{known.item}/undo", True)
        args = msgspec.json.encode(undo["args"])
        attempts = known.attempts
        try:
            await self._try(run, known, undo["port"], undo["method"], args, call, self.undo_budget_s)
            known.state = "undone"
        except Refused as error:
            known.state, known.undo_failed = "debt", f"{error.code}: {error.message} {error.details}".strip()
            log.warning("operation %s leaves a debt: %s %s", run.row.id, undo["port"], undo["method"])
            for held in run.undoable():
                if held.name in undo["holds"]:
                    held.state, held.dirty = "undone", True
        known.attempts = attempts
        known.dirty = True

    async def _signalled(self, run: Run, step: Step) -> bool:
        """Whether a waiting step got its signal or ran out of time; otherwise park the operation."""
        known = run.known[step.key]
        tag = step.args["tag"]
        row = await self.database.fetch_one(
            sql.SIGNAL, {"subject": run.row.target or run.row.id, "name": step.method, "tag": tag}
        )
        if row is not None:
            known.state, known.output, known.dirty = "done", row[1].encode(), True
            return True
        left = known.started_at / 1e6 + step.budget_s - self._now() / 1e6
        if left <= 0:
            known.state, known.dirty = "refused", True
            known.error = refusal_json(Refused(f"No {step.method} came in {step.budget_s:.0f} s.", "timeout"))
            return True
        self._sleep(run.row.id, left)
        return False


async def _spent(tx: Tx, facts: dict[str, Value]) -> None:
    await tx.execute(sql.SAVE_SPENT, facts)


def _known(row: tuple[Any, ...]) -> Known:
    name, item, seq, kind, state, digest, port, args, output, undo, error, attempts, spent_us, started_at = row
    return Known(
        name, item, seq, kind, state, digest, port, args.encode(), (output or "").encode(), (undo or "").encode(),
        error or "", attempts, spent_us, started_at,
    )  # fmt: skip
