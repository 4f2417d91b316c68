"""Letting an action on a server begin (contracts: 1.17, 1.18).

Nova's table decides; the decision is made true by one conditional UPDATE of exactly the row that was
looked at, and the operation is opened in the same transaction.
"""

from __future__ import annotations

import msgspec

from kilonova.db.changes import emit
from kilonova.db.database import Tx
from kilonova.db.queries.operations import open_operation, supersede_lane
from kilonova.db.queries.server_state import START_ACTION, emit_state, state_payload
from kilonova.db.statement import Statement
from kilonova.model.operation import NewOperation, ResetInputs
from kilonova.model.server import Server
from kilonova.model.state_machine import DELETING, Rule, Standing, refusal

_STANDING = Statement(
    """SELECT vm_state, task_state, power_state, locked_by, launched_at, host, next_number, generation,
         project_id, user_id, operation_id
       FROM servers WHERE uuid = :uuid"""
)
_ADMIT = Statement(
    """UPDATE servers SET task_state = :sets, operation_id = :operation_id, next_number = next_number + 1,
         generation = generation + 1, updated_at = :now
       WHERE uuid = :uuid AND generation = :generation AND next_number = :number AND vm_state = :vm_state
         AND COALESCE(task_state, '') = :task_state AND COALESCE(locked_by, '') = :locked_by"""
)
_UNDER_WAY = Statement("SELECT story, created_at FROM operations WHERE id = :id AND ended_at IS NULL")
_UNPLACED = Statement(
    """SELECT project_id, request, operation_id, generation FROM server_index WHERE uuid = :uuid AND cell IS NULL"""
)
_TAKE_UNPLACED = Statement(
    """UPDATE server_index SET cancelled = :request_id, generation = generation + 1, request = :request
       WHERE uuid = :uuid AND cell IS NULL AND cancelled IS NULL AND generation = :generation"""
)
_RESET = Statement(
    """UPDATE servers SET vm_state = :vm_state, task_state = NULL, operation_id = NULL, next_number = next_number + 1,
         generation = generation + 1, updated_at = :now
       WHERE uuid = :uuid AND generation = :generation AND next_number = :number"""
)
_FINISHED = Statement("UPDATE instance_actions SET updated_at = :now, finished_at = :now WHERE id = :id")
_TRIES = 3
_server = msgspec.json.Decoder(Server).decode


class Admission(msgspec.Struct, frozen=True, kw_only=True):
    """A request for an action on one server."""

    server: str
    rule: Rule
    operation_id: str
    inputs: bytes
    """JSON of the story's inputs."""
    request_id: str
    user_id: str
    """Who asks (not whose server it is)."""
    project_id: str
    passes_lock: bool
    now: int


class Admitted(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome: `refused` holds the words for a 409, `gone` means there is no such row here."""

    refused: str | None = None
    gone: bool = False
    already: bool = False
    """A delete of what is being deleted: nothing to do."""


async def admit(tx: Tx, asked: Admission) -> Admitted:
    """Admit an action on a placed server, in its cell's database."""
    for _ in range(_TRIES):
        row = await tx.fetch_one(_STANDING, {"uuid": asked.server})
        if row is None:
            return Admitted(gone=True)
        vm_state, task_state, power_state, locked_by, launched_at, host, number, generation, project, _u, under = row
        if asked.rule.takes_lane and task_state == DELETING:
            return Admitted(already=True)
        standing = Standing(
            uuid=asked.server, vm_state=vm_state, task_state=task_state, locked_by=locked_by, launched_at=launched_at,
            host=host,
        )  # fmt: skip
        why = refusal(asked.rule, standing, passes_lock=asked.passes_lock)
        if why is not None:
            return Admitted(refused=why + await _under_way(tx, under))
        matched = await tx.execute(
            _ADMIT,
            {
                "uuid": asked.server, "sets": asked.rule.sets, "operation_id": asked.operation_id, "now": asked.now,
                "generation": generation, "number": number, "vm_state": vm_state, "task_state": task_state or "",
                "locked_by": locked_by or "",
            },
        )  # fmt: skip
        if not matched:
            continue
        before = msgspec.json.encode({"vm_state": vm_state, "task_state": task_state, "power_state": power_state})
        if asked.rule.takes_lane:
            await supersede_lane(tx, asked.server, number, asked.now)
        await _open(tx, asked, number, project, before.decode())
        await start_action(tx, asked, asked.rule.action)
        shown = state_payload((vm_state, asked.rule.sets, power_state))
        await emit(tx, "server", asked.server, project, generation + 1, shown, asked.now)
        return Admitted()
    return Admitted(refused=f"Instance {asked.server} is being changed by another request; try again")


async def admit_unplaced_delete(tx: Tx, asked: Admission) -> Admitted:
    """Admit the delete of a server that has no cell yet, in the global database.

    The index row shows the server as deleting and remembers the request; `schedule`, which may be placing many
    servers at once and is not stopped for one of them, hands it to a `delete` as soon as it is in its cell.
    """
    for _ in range(_TRIES):
        row = await tx.fetch_one(_UNPLACED, {"uuid": asked.server})
        if row is None:
            return Admitted(gone=True)
        project, request, _schedule, generation = row
        server = _server(request)
        if server.task_state == DELETING:
            return Admitted(already=True)
        server.task_state, server.updated_at = DELETING, asked.now
        matched = await tx.execute(
            _TAKE_UNPLACED,
            {
                "uuid": asked.server, "request_id": asked.request_id, "generation": generation,
                "request": msgspec.json.encode(server).decode(),
            },
        )  # fmt: skip
        if not matched:
            continue
        shown = state_payload((server.vm_state, DELETING, server.power_state))
        await emit(tx, "server", asked.server, project, generation + 1, shown, asked.now)
        return Admitted()
    return Admitted(refused=f"Instance {asked.server} is being changed by another request; try again")


async def reset_state(tx: Tx, asked: Admission, vm_state: str) -> Admitted:
    """Set a server's state by an admin's word and take its lane from whatever holds it (1.18).

    Shown at once; a `reset` operation ends what was under way. A delete is not stopped: it always ends by itself.
    """
    for _ in range(_TRIES):
        row = await tx.fetch_one(_STANDING, {"uuid": asked.server})
        if row is None:
            return Admitted(gone=True)
        if row[1] == DELETING:
            return Admitted(already=True)
        number, generation, project = row[6], row[7], row[8]
        params = {
            "uuid": asked.server, "vm_state": vm_state, "generation": generation, "number": number, "now": asked.now,
        }  # fmt: skip
        if await tx.execute(_RESET, params):
            await supersede_lane(tx, asked.server, number, asked.now)
            inputs = msgspec.json.encode(ResetInputs(server=asked.server, vm_state=vm_state))
            await open_operation(
                tx,
                NewOperation(
                    id=asked.operation_id, story="reset", target=asked.server, number=number, inputs=inputs,
                    request_id=asked.request_id, user_id=asked.user_id, project_id=project, created_at=asked.now,
                ),
            )  # fmt: skip
            await record_action(tx, asked, "resetState")
            await emit_state(tx, asked.server, asked.now)
            return Admitted()
    return Admitted(refused=f"Instance {asked.server} is being changed by another request; try again")


async def start_action(tx: Tx, asked: Admission, action: str) -> None:
    """Insert the row that os-instance-actions shows; the story finishes it."""
    await tx.execute(
        START_ACTION,
        {
            "id": asked.operation_id, "server": asked.server, "request_id": asked.request_id, "action": action,
            "user_id": asked.user_id, "project_id": asked.project_id, "started": asked.now, "now": asked.now,
        },
    )  # fmt: skip


async def record_action(tx: Tx, asked: Admission, action: str) -> None:
    """Insert the row of an action that is over at once."""
    await start_action(tx, asked, action)
    await tx.execute(_FINISHED, {"id": asked.operation_id, "now": asked.now})


async def _open(tx: Tx, asked: Admission, number: int, project: str, before: str) -> None:
    await open_operation(
        tx,
        NewOperation(
            id=asked.operation_id, story=asked.rule.story, target=asked.server, number=number, inputs=asked.inputs,
            before=before, request_id=asked.request_id, user_id=asked.user_id, project_id=project,
            created_at=asked.now,
        ),
    )  # fmt: skip


async def _under_way(tx: Tx, operation_id: str | None) -> str:
    """Which operation holds the server, and since when."""
    if operation_id is None:
        return ""
    row = await tx.fetch_one(_UNDER_WAY, {"id": operation_id})
    if row is None:
        return ""
    from datetime import UTC, datetime

    since = datetime.fromtimestamp(row[1] / 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return f" ({row[0]} under way since {since})"
