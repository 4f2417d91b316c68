"""One transaction per boundary: what a step gave, the writes that follow, the next intents, what is shown.

`commit_boundary` walks the story inside the transaction: outcomes since the last boundary are recorded, write
steps run with their records, the next calls' intents are inserted, the server's row and its action's event
change, and the operation's row is updated only if it is still ours (contracts: 1.7). When the transaction is run again
the walk starts again from the records.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid5

import msgspec

from kilonova.conductor.errors import Lost, Refused
from kilonova.conductor.run import Known, Run, prepare, refusal_json
from kilonova.conductor.story import EFFECTS, NOW, All, Context, Step, encode
from kilonova.db.database import Tx
from kilonova.db.errors import DatabaseError, UniqueViolation
from kilonova.db.queries import journal as sql
from kilonova.db.queries import server_state
from kilonova.db.statement import Statement, Value
from kilonova.model.server import Fault


class WriteRefused(Exception):
    """A write step refused: the transaction is rolled back and run again with the refusal recorded."""

    def __init__(self, step: Step, error: Refused) -> None:
        super().__init__(str(error))
        self.step, self.error = step, error


@dataclass(slots=True)
class Boundary:
    """Arguments and findings of one boundary."""

    run: Run
    me: str
    now: int
    fresh: bool
    """The operation is taken by this very boundary."""
    refused: dict[tuple[str, str], Refused] = field(default_factory=dict)
    tried: bool = False
    added: list[Known] = field(default_factory=list)
    cleaned: list[Known] = field(default_factory=list)
    calls: list[Step] = field(default_factory=list)
    """Intents that this boundary committed: to be performed now."""
    asks: list[Step] = field(default_factory=list)
    wait: Step | None = None
    event: str | None = None
    saved: dict[str, Any] = field(default_factory=dict)
    opened: list[str] = field(default_factory=list)
    """Operations that write steps opened: to be woken after the commit."""
    writing: Step | None = None
    """The write step at work, while it is."""


def _snapshot(run: Run) -> dict[str, Any]:
    return {
        "seq": run.next_seq, "state": run.state, "forward_only": run.forward_only, "show": dict(run.show),
        "event": run.event, "error": run.row.error,
    }  # fmt: skip


def rewind(b: Boundary) -> None:
    """Bring the run back to before this boundary (its transaction did not commit)."""
    run = b.run
    for known in b.added:
        run.known.pop(known.key, None)
    for known in b.cleaned:
        known.dirty = True
    if b.saved:
        run.next_seq, run.state, run.forward_only = b.saved["seq"], b.saved["state"], b.saved["forward_only"]
        run.show, run.event, run.row.error = dict(b.saved["show"]), b.saved["event"], b.saved["error"]
    b.added, b.cleaned, b.calls, b.asks, b.wait, b.opened = [], [], [], [], None, []
    run.forget_walk()


async def commit_boundary(tx: Tx, b: Boundary) -> None:
    """The transaction. Raises Lost when the operation is no longer ours, WriteRefused to be run again."""
    run = b.run
    if b.tried:
        rewind(b)
    else:
        b.saved = _snapshot(run)
    b.tried = True
    server = run.row.target is not None and run.story.on_undone != "none"
    for known in run.known.values():
        if known.dirty:
            await _record_outcome(tx, b, known)
    shown: dict[str, Any] = {}
    if run.state in ("ready", "running"):
        run.state = "running"
        await _walk(tx, b)
        shown = run.show
        run.show = {}
    ended_at: int | None = None
    error: str | None = run.row.error
    result: str | None = None
    if run.failed is not None and run.state == "running":
        error = run.row.error = failure_json(run.failed)
        if run.forward_only or not run.undoable():
            # Nothing to take back: the operation ends here, in the same commit.
            run.state = "undone"
        else:
            run.state = "undoing"
    if run.ended is not None:
        run.state, ended_at = "done", b.now
        shown.update(run.ended.fields)
        if run.ended.result is not None:
            result = encode(run.ended.result).decode()
    elif run.state == "undoing" and not run.undoable():
        run.state = "undone"
    if run.state == "undone":
        ended_at = b.now
        shown.update(_undone_fields(run, error, b.now))
        if run.story.after_undone is not None:
            inputs = msgspec.json.decode(run.row.inputs, type=run.story.inputs)
            await run.story.after_undone(tx, inputs, error or "{}", _context(tx, b))
    if server:
        await _show(tx, b, shown, ended_at, error)
    facts: dict[str, Value] = {
        "id": run.row.id, "me": b.me, "epoch": run.row.epoch, "state": run.state,
        "forward_only": int(run.forward_only), "wake_at": _wake_at(b), "now": b.now, "ended_at": ended_at,
        "error": error, "result": result,
    }  # fmt: skip
    if b.fresh:
        facts |= {"target": run.row.target, "number": run.row.number}
        matched = await tx.execute(sql.TAKE, facts)
    else:
        facts["spent_us"] = run.row.spent_us
        matched = await tx.execute(sql.HOLD, facts)
    if not matched:
        raise Lost(run.row.id)


def _wake_at(b: Boundary) -> int | None:
    if b.wait is None:
        return None
    known = b.run.known[b.wait.key]
    return known.started_at + int(b.wait.budget_s * 1_000_000)


async def _walk(tx: Tx, b: Boundary) -> None:
    run = b.run
    while True:
        run.advance()
        request = run.current
        if request is None:
            return
        steps = request.steps if isinstance(request, All) else [request]
        calls = False
        for step in steps:
            prepare(step)
            if step.task_state is not None:
                run.show["task_state"] = step.task_state
            if step.event is not None:
                b.event = step.event
            known = run.known.get(step.key)
            if known is not None and known.ended:
                continue
            if step.kind == "write":
                await _run_write(tx, b, step)
                continue
            calls = True
            if step.kind == "ask":
                b.asks.append(step)
                continue
            if known is None:  # else an intent of before a takeover: asked again under the same key
                known = run.intend(step, b.now)
                b.added.append(known)
                await _insert_step(tx, b, known)
            if step.kind == "wait":
                b.wait = step
            else:
                b.calls.append(step)
        if calls:
            return


async def _run_write(tx: Tx, b: Boundary, step: Step) -> None:
    run = b.run
    known = run.intend(step, b.now)
    b.added.append(known)
    refusal = b.refused.get(step.key)
    if refusal is not None:
        known.state, known.error = "refused", refusal_json(refusal)
    else:
        b.writing = step
        try:
            value = await EFFECTS[step.method].function(tx, step.args, _context(tx, b))
        except Refused as error:
            raise WriteRefused(step, error) from None
        except DatabaseError:
            raise
        except Exception as error:
            raise WriteRefused(step, internal(error)) from error
        b.writing = None
        known.state, known.output = "done", encode(value)
    await _insert_step(tx, b, known)


def _context(tx: Tx, b: Boundary) -> Context:
    row = b.run.row
    return Context(row.id, row.request_id, row.user_id, row.project_id, b.now, tx.dialect, opened=b.opened)


async def _insert_step(tx: Tx, b: Boundary, known: Known) -> None:
    done = known.ended
    await _insert(
        tx, b, sql.INSERT_STEP,
        {
            "operation_id": b.run.row.id, "name": known.name, "item": known.item, "seq": known.seq,
            "kind": known.kind, "state": known.state, "digest": known.digest, "args": known.args.decode(),
            "output": known.output.decode() if done else None, "undo": known.undo.decode() or None,
            "error": known.error or None, "attempts": known.attempts, "spent_us": known.spent_us,
            "port": known.port, "started_at": known.started_at, "finished_at": b.now if done else None,
        },
    )  # fmt: skip


async def _insert(tx: Tx, b: Boundary, statement: Statement, facts: dict[str, Value]) -> None:
    """Insert a row of the journal; one that is there already was put there by another owner."""
    try:
        await tx.execute(statement, facts)
    except UniqueViolation:
        raise Lost(b.run.row.id) from None


async def _record_outcome(tx: Tx, b: Boundary, known: Known) -> None:
    known.dirty = False
    b.cleaned.append(known)
    if known.kind == "ask":
        await _insert_step(tx, b, known)
        return
    await tx.execute(
        sql.UPDATE_STEP,
        {
            "operation_id": b.run.row.id, "name": known.name, "item": known.item, "state": known.state,
            "output": known.output.decode() or None, "error": known.error or None, "attempts": known.attempts,
            "spent_us": known.spent_us, "finished_at": b.now,
        },
    )  # fmt: skip
    if known.state == "debt":
        await _insert_debt(tx, b, known)


async def _insert_debt(tx: Tx, b: Boundary, known: Known) -> None:
    undo = msgspec.json.decode(known.undo)
    await tx.execute(
        sql.INSERT_DEBT,
        {
            "id": debt_id(b.run.row.id, known), "operation_id": b.run.row.id, "step": f"{known.name}/{known.item}",
            "holder": undo["port"], "kind": undo["resource"] or known.name,
            "resource": b.run.row.target or b.run.row.id,
            "payload": debt_payload(b.run, known), "error": known.undo_failed or None, "now": b.now,
        },
    )  # fmt: skip


def debt_id(operation_id: str, known: Known) -> str:
    """A debt's id: the same however often its boundary runs."""
    return str(uuid5(UUID(operation_id), f"debt/{known.name}/{known.item}"))


def debt_payload(run: Run, known: Known) -> str:
    """JSON {undo, server, number, epoch, key}: the call that pays it, under its fence."""
    return encode(
        {
            "undo": msgspec.Raw(known.undo), "server": run.row.target, "number": run.row.number,
            "epoch": run.row.epoch, "key": f"{run.row.id}/{known.name}/{known.item}/undo",
        }
    ).decode()  # fmt: skip


async def _show(tx: Tx, b: Boundary, shown: dict[str, Any], ended_at: int | None, error: str | None) -> None:
    """The server's row, its action and the action's event, as this boundary leaves them."""
    run = b.run
    target = run.row.target
    assert target is not None
    if ended_at is not None and shown.get("vm_state") != "deleted":
        shown.setdefault("task_state", None)
        shown["operation_id"] = None
        if any(known.port.startswith("host:") or known.undo for known in run.known.values()):
            shown["host_number"] = run.row.number
    for name, value in shown.items():
        if value is NOW:
            shown[name] = b.now
    if shown and shown.get("vm_state") != "deleted":
        await server_state.change(tx, target, shown, b.now, holder=run.row.id)
    if b.event is not None and b.event != run.event:
        if run.event is not None:
            await _finish_event(tx, b, run.event, None)
        host = next((s.port[5:] for s in b.calls if s.port.startswith("host:")), None)
        await _insert(
            tx, b, server_state.START_EVENT,
            {"action_id": run.row.id, "event": b.event, "seq": run.next_seq, "host": host, "now": b.now},
        )
        run.event = b.event
    if ended_at is not None:
        if run.event is not None:
            await _finish_event(tx, b, run.event, error)
        await tx.execute(
            server_state.FINISH_ACTION,
            {"id": run.row.id, "message": "Error" if error else None, "now": b.now},
        )


async def _finish_event(tx: Tx, b: Boundary, event: str, error: str | None) -> None:
    facts = msgspec.json.decode(error) if error else {}
    await tx.execute(
        server_state.FINISH_EVENT,
        {
            "action_id": b.run.row.id, "event": event, "result": "Error" if error else "Success",
            "details": facts.get("message"), "traceback": facts.get("details") or None, "now": b.now,
        },
    )  # fmt: skip


def failure_json(failure: BaseException) -> str:
    """Why an operation failed, as recorded: {message, code, details}."""
    return refusal_json(failure if isinstance(failure, Refused) else internal(failure))


def internal(bug: BaseException) -> Refused:
    """Anything that is not an error of the step is a bug: never tried again (contracts: 1.8)."""
    return Refused("An internal error stopped the operation.", "internal", repr(bug)[:2000])


def _undone_fields(run: Run, error: str | None, now: int) -> dict[str, Any]:
    """What the server shows after a failed operation."""
    facts = msgspec.json.decode(error or "{}")
    fault = Fault(
        code=500, message=str(facts.get("message", ""))[:255], created=now, details=facts.get("message", ""),
        admin_details=facts.get("details", ""),
    )  # fmt: skip
    fields: dict[str, Any] = {"task_state": None}
    if run.story.on_undone == "error" or run.forward_only:
        fields["vm_state"] = "error"
    elif run.row.before:
        before = msgspec.json.decode(run.row.before)
        fields["vm_state"] = before.get("vm_state", "error")
    if fields.get("vm_state") == "error":
        fields["fault"] = encode(fault).decode()
    return fields
