"""SQL that changes what a server's row shows; used only inside journal boundaries and placements.

Every change raises the row's generation and is emitted in the order of changes.
"""

from __future__ import annotations

from typing import Any

import msgspec

from kilonova.db.changes import emit
from kilonova.db.database import Tx
from kilonova.db.statement import Row, Statement, Value
from kilonova.model.server import Server

COLUMNS = Server.__struct_fields__
_NAMES = ", ".join(COLUMNS)

INSERT = Statement(f"INSERT INTO servers ({_NAMES}) VALUES ({', '.join(':' + c for c in COLUMNS)})")
SELECT = Statement(f"SELECT {_NAMES} FROM servers WHERE uuid = :uuid")
_EXISTS = Statement("SELECT 1 FROM servers WHERE uuid = :uuid")
_ARCHIVED = Statement("SELECT 1 FROM servers_archive WHERE uuid = :uuid")
DELETE = Statement("DELETE FROM servers WHERE uuid = :uuid")
INSERT_ARCHIVED = Statement(
    f"INSERT INTO servers_archive ({_NAMES}) VALUES ({', '.join(':' + c for c in COLUMNS)})"
)
NEXT_NUMBER = Statement("INSERT INTO server_numbers (uuid) VALUES (:uuid)")
NUMBER_OF = Statement("SELECT id FROM server_numbers WHERE uuid = :uuid")
_STATE = Statement(
    "SELECT vm_state, task_state, power_state, generation, project_id, host FROM servers WHERE uuid = :uuid"
)

START_EVENT = Statement(
    """INSERT INTO instance_action_events (action_id, event, seq, host, result, details, traceback, started_at,
         finished_at) VALUES (:action_id, :event, :seq, :host, NULL, NULL, NULL, :now, NULL)"""
)
OPEN_EVENT = Statement(
    "SELECT event FROM instance_action_events WHERE action_id = :id AND finished_at IS NULL ORDER BY seq DESC LIMIT 1"
)
FINISH_EVENT = Statement(
    """UPDATE instance_action_events SET result = :result, details = :details, traceback = :traceback,
         finished_at = :now WHERE action_id = :action_id AND event = :event"""
)
START_ACTION = Statement(
    """INSERT INTO instance_actions (id, server, request_id, action, user_id, project_id, message, started_at,
         updated_at, finished_at)
       VALUES (:id, :server, :request_id, :action, :user_id, :project_id, NULL, :started, :now, NULL)"""
)
FINISH_ACTION = Statement(
    "UPDATE instance_actions SET message = :message, updated_at = :now, finished_at = :now WHERE id = :id"
)

_updates: dict[tuple[bool, tuple[str, ...]], Statement] = {}
_HELD = frozenset({"task_state", "operation_id"})
"""What belongs to the operation that was admitted last."""


def _update(fields: tuple[str, ...], held: bool = False) -> Statement:
    statement = _updates.get((held, fields))
    if statement is None:
        unknown = set(fields) - set(COLUMNS)
        if unknown:
            raise ValueError(f"servers has no columns {sorted(unknown)}")
        sets = ", ".join(
            f"{f} = CASE WHEN operation_id = :holder THEN :{f} ELSE {f} END" if held and f in _HELD else f"{f} = :{f}"
            for f in fields
        )
        statement = _updates[held, fields] = Statement(
            f"UPDATE servers SET {sets}, generation = generation + 1, updated_at = :now WHERE uuid = :uuid"
        )
    return statement


async def change(tx: Tx, uuid: str, fields: dict[str, Value], now: int, *, holder: str | None = None) -> bool:
    """Set columns of a server's row and emit the change; False when there is no such row.

    With `holder`, an operation: its task_state counts only while no later one was admitted behind it.
    """
    params = {**fields, "uuid": uuid, "now": now}
    if holder is not None and not _HELD.isdisjoint(fields):
        matched = await tx.execute(_update(tuple(sorted(fields)), True), {**params, "holder": holder})
    else:
        matched = await tx.execute(_update(tuple(sorted(fields))), params)
    if not matched:
        return False
    await emit_state(tx, uuid, now)
    return True


async def emit_state(tx: Tx, uuid: str, now: int) -> None:
    """Put a server's present state into the order of changes."""
    row = await tx.fetch_one(_STATE, {"uuid": uuid})
    if row is not None:
        await emit(tx, "server", uuid, row[4], row[3], state_payload(row), now)


def state_payload(row: Row) -> str:
    """What the event stream tells of a server: (vm_state, task_state, power_state, generation, project, host)."""
    payload: dict[str, Any] = {"vm_state": row[0], "task_state": row[1], "power_state": row[2]}
    return msgspec.json.encode(payload).decode()


async def load(tx: Tx, uuid: str) -> Server | None:
    row = await tx.fetch_one(SELECT, {"uuid": uuid})
    return Server(**dict(zip(COLUMNS, row, strict=True))) if row is not None else None


async def exists(tx: Tx, uuid: str) -> bool:
    """Whether the server has a row here, living or archived."""
    key = {"uuid": uuid}
    return bool(await tx.fetch(_EXISTS, key)) or bool(await tx.fetch(_ARCHIVED, key))


async def insert(tx: Tx, server: Server) -> None:
    """Insert a server's row with the cell's next number; emits it."""
    if not server.number:
        await tx.execute(NEXT_NUMBER, {"uuid": server.uuid})
        row = await tx.fetch_one(NUMBER_OF, {"uuid": server.uuid})
        assert row is not None
        server.number = row[0]
    await tx.execute(INSERT, {c: getattr(server, c) for c in COLUMNS})
    payload = state_payload(
        (server.vm_state, server.task_state, server.power_state, server.generation, server.project_id, server.host)
    )
    await emit(tx, "server", server.uuid, server.project_id, server.generation, payload, server.updated_at)
