"""The server index: which servers there are, where each one's row is, and what was asked for until it has one."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from kilonova.db.changes import emit
from kilonova.db.database import Tx
from kilonova.db.queries.server_state import state_payload
from kilonova.db.statement import Statement
from kilonova.model.server import Server

_INSERT = Statement(
    """INSERT INTO server_index (uuid, project_id, user_id, name, cell, request, vcpus, memory_mb, operation_id,
         generation, created_at)
       VALUES (:uuid, :project_id, :user_id, :name, NULL, :request, :vcpus, :memory_mb, :operation_id, 1, :now)"""
)
FIND = Statement("SELECT cell, request, generation FROM server_index WHERE uuid = :uuid")
CELL = Statement("SELECT cell FROM server_index WHERE uuid = :uuid")
_RENAME = Statement("UPDATE server_index SET name = :name WHERE uuid = :uuid")
_REQUEST = Statement(
    """UPDATE server_index SET request = :request, name = :name, generation = generation + 1
       WHERE uuid = :uuid AND cell IS NULL AND generation = :generation"""
)

_encode = msgspec.json.Encoder().encode
_server = msgspec.json.Decoder(Server).decode


class Indexed(Struct, frozen=True):
    """Where a server is: its cell's name, or (while it has none) the server as asked for."""

    cell: str | None
    unplaced: Server | None
    generation: int


def indexed(row: tuple[str | None, str, int] | None) -> Indexed | None:
    """From a row of `FIND`."""
    if row is None:
        return None
    cell, request, generation = row
    return Indexed(cell, _server(request) if cell is None else None, generation)


async def insert(tx: Tx, server: Server) -> None:
    """Insert an unplaced server; emits it."""
    await tx.execute(
        _INSERT,
        {
            "uuid": server.uuid, "project_id": server.project_id, "user_id": server.user_id, "name": server.name,
            "request": _encode(server).decode(), "vcpus": server.vcpus, "memory_mb": server.memory_mb,
            "operation_id": server.operation_id, "now": server.created_at,
        },
    )  # fmt: skip
    payload = state_payload((server.vm_state, server.task_state, server.power_state))
    await emit(tx, "server", server.uuid, server.project_id, 1, payload, server.created_at)


async def rewrite(tx: Tx, server: Server, generation: int) -> bool:
    """Change what an unplaced server asks for; False when it was placed or changed meanwhile."""
    matched = await tx.execute(
        _REQUEST,
        {
            "uuid": server.uuid, "name": server.name, "request": _encode(server).decode(), "generation": generation,
        },
    )  # fmt: skip
    return matched == 1


async def rename(tx: Tx, uuid: str, name: str) -> None:
    """Keep the index's copy of a name."""
    await tx.execute(_RENAME, {"uuid": uuid, "name": name})
