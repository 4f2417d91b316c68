"""The server index as `schedule` and `delete` use it: requests of servers in no cell, which cell, and the end."""

from __future__ import annotations

from kilonova.db.database import Database, Tx
from kilonova.db.statement import Statement, in_list, in_values

_SET_CELL = Statement("UPDATE server_index SET cell = :cell, generation = generation + 1 WHERE uuid = :uuid")
_CANCELLED = Statement("SELECT cancelled FROM server_index WHERE uuid = :uuid")
_HOLD = Statement("UPDATE server_index SET generation = generation WHERE uuid = :uuid")
_DELETE = Statement("DELETE FROM server_index WHERE uuid = :uuid")
FIND = Statement("SELECT project_id, user_id, cell, vcpus, memory_mb FROM server_index WHERE uuid = :uuid")
_REQUEST = Statement("SELECT request FROM server_index WHERE uuid = :uuid")
_by_size: dict[int, Statement] = {}


def _many(count: int) -> Statement:
    text, names = in_list("ids", count)
    statement = _by_size.get(len(names))
    if statement is None:
        statement = _by_size[len(names)] = Statement(f"SELECT request FROM server_index WHERE uuid IN {text}")
    return statement


async def requests(tx: Tx, servers: tuple[str, ...]) -> list[str]:
    """JSON of `model.server.Server` for each server that is in the index, in no order."""
    if len(servers) == 1:
        return [row[0] for row in await tx.fetch(_REQUEST, {"uuid": servers[0]})]
    found: list[str] = []
    for at in range(0, len(servers), 1000):
        part = list(servers[at : at + 1000])
        found += [row[0] for row in await tx.fetch(_many(len(part)), in_values("ids", [*part]))]
    return found


async def requests_of(database: Database, servers: tuple[str, ...]) -> list[str]:
    """The same from another database, committed state."""
    found: list[str] = []
    for uuid in servers:
        row = await database.fetch_one(_REQUEST, {"uuid": uuid})
        if row is not None:
            found.append(row[0])
    return found


async def set_cell(tx: Tx, uuid: str, cell: str) -> str | None:
    """Tell in which cell a server is; the request that deleted it meanwhile, if one did."""
    await tx.execute(_SET_CELL, {"uuid": uuid, "cell": cell})
    row = await tx.fetch_one(_CANCELLED, {"uuid": uuid})
    return row[0] if row is not None else None


async def hold(tx: Tx, uuid: str) -> bool:
    """Keep a server from being forgotten until this transaction ends; False when it was forgotten already."""
    return bool(await tx.execute(_HOLD, {"uuid": uuid}))


async def delete(tx: Tx, uuid: str) -> bool:
    """Whether the row was there: releases that belong to it happen once."""
    return bool(await tx.execute(_DELETE, {"uuid": uuid}))
