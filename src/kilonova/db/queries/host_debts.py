"""What hosts owe: open debts of every database, and the mark in `hosts` that schedulers see.

The mark is a level, written anew from the debts whenever it differs: one that is late costs a guest on a host that
owes something, never more.
"""

from __future__ import annotations

from collections.abc import Mapping

from kilonova.db.changes import emit
from kilonova.db.database import Database, Tx
from kilonova.db.statement import Row, Statement
from kilonova.model.placement import HOST_CHANGED

OPEN = Statement("SELECT holder, COUNT(*) FROM debts WHERE state = 'open' GROUP BY holder")
MARKED = Statement("SELECT host, debts FROM hosts WHERE debts > 0")
_MARK = Statement(
    """UPDATE hosts SET debts = :debts, generation = generation + 1, updated_at = :now
       WHERE host = :host AND debts <> :debts"""
)
_NODES = Statement("SELECT uuid, generation FROM hosts WHERE host = :host")
_HOLDER = "host:"


async def owed(database: Database) -> dict[str, int]:
    """How many debts each host has in one database."""
    return await database.scan(OPEN, {}, _hosts)


def _hosts(rows: list[Row]) -> dict[str, int]:
    return {holder.removeprefix(_HOLDER): count for holder, count in rows if holder.startswith(_HOLDER)}


async def marked(database: Database) -> dict[str, int]:
    """How many debts each host is marked with, in the global database."""
    return await database.scan(MARKED, {}, _counts)


def _counts(rows: list[Row]) -> dict[str, int]:
    return {row[0]: row[1] for row in rows}


async def mark(tx: Tx, hosts: Mapping[str, int], now: int) -> None:
    """Mark hosts with how many debts they have; emits those that change."""
    for host, count in sorted(hosts.items()):
        if await tx.execute(_MARK, {"host": host, "debts": count, "now": now}):
            for uuid, generation in await tx.fetch(_NODES, {"host": host}):
                await emit(tx, HOST_CHANGED, uuid, "", generation, "{}", now)
