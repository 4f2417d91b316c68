"""The records of a whole cloud, read for an audit."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from kilonova.db.open import Databases
from kilonova.db.statement import Statement

_ALL = "an audit reads everything"
_SERVERS = Statement(
    """SELECT uuid, project_id, user_id, vm_state, task_state, power_state, host, operation_id, vcpus, memory_mb,
         addresses FROM servers""",
    _ALL,
)
_INDEX = Statement("SELECT uuid, project_id, user_id, cell, vcpus, memory_mb, operation_id FROM server_index", _ALL)
_HOSTS = Statement("SELECT uuid, host FROM hosts", _ALL)
_INVENTORIES = Statement("SELECT provider, resource_class, capacity, used FROM inventories", _ALL)
_ALLOCATIONS = Statement("SELECT consumer, provider, resource_class, amount FROM allocations", _ALL)
_QUOTAS = Statement("SELECT project_id, user_id, resource, used FROM quota_usages", _ALL)
_OPERATIONS = Statement(
    "SELECT id, story, state, target, superseded, wake_at FROM operations WHERE ended_at IS NULL", _ALL
)
_KEYPAIRS = Statement("SELECT user_id, COUNT(*) FROM keypairs GROUP BY user_id", _ALL)
_DEBTS = Statement("SELECT id, operation_id, holder, kind, resource FROM debts WHERE state = 'open'", _ALL)
_INTENTS = Statement(
    """SELECT s.operation_id, s.name, s.item, o.state FROM steps s JOIN operations o ON o.id = s.operation_id
       WHERE s.state = 'intent' AND o.ended_at IS NOT NULL AND o.state <> 'superseded'""",
    _ALL,
)
_ACTIONS = Statement(
    """SELECT a.id, a.server, a.action FROM instance_actions a JOIN operations o ON o.id = a.id
       WHERE a.finished_at IS NULL AND o.ended_at IS NOT NULL AND o.state <> 'superseded'""",
    _ALL,
)


class ServerRecord(Struct, frozen=True):
    uuid: str
    project_id: str
    user_id: str
    vm_state: str
    task_state: str | None
    power_state: int
    host: str | None
    operation_id: str | None
    vcpus: int
    memory_mb: int
    addresses: str
    cell: str


_FIELDS = ServerRecord.__struct_fields__


class Records(Struct, frozen=True, kw_only=True):
    servers: dict[str, ServerRecord]
    twice: tuple[str, ...]
    """Servers that stand in more than one cell."""
    index: dict[str, tuple[Any, ...]]
    """Server -> (project, user, cell, vcpus, memory, operation)."""
    hosts: dict[str, str]
    """Provider -> host."""
    inventories: dict[tuple[str, str], tuple[int, int]]
    """(provider, class) -> (capacity, used)."""
    allocations: dict[str, dict[tuple[str, str], int]]
    """Consumer -> (provider, class) -> amount."""
    quotas: dict[tuple[str, str, str], int]
    """(project, user, resource) -> how many are counted as used."""
    keypairs: dict[str, int]
    """User -> how many."""
    open_operations: dict[str, tuple[Any, ...]]
    debts: tuple[tuple[Any, ...], ...]
    intents: tuple[tuple[Any, ...], ...]
    actions: tuple[tuple[Any, ...], ...]


def _all(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return rows


async def gather(databases: Databases) -> Records:
    """Read everything. Not one snapshot: run it on a cloud that is idle, or look again at what it finds."""
    servers: dict[str, ServerRecord] = {}
    twice: list[str] = []
    actions: list[tuple[Any, ...]] = []
    cells: dict[int, str] = {}
    for name, cell in databases.cells.items():
        if id(cell) in cells:
            continue
        cells[id(cell)] = name
        for row in await cell.scan(_SERVERS, {}, _all):
            if row[0] in servers:
                twice.append(row[0])
            servers[row[0]] = ServerRecord(**dict(zip(_FIELDS, (*row, name), strict=True)))
        actions += await cell.scan(_ACTIONS, {}, _all)
    g = databases.global_
    allocations: dict[str, dict[tuple[str, str], int]] = {}
    for consumer, provider, name, amount in await g.scan(_ALLOCATIONS, {}, _all):
        allocations.setdefault(consumer, {})[provider, name] = amount
    operations: dict[str, tuple[Any, ...]] = {}
    debts: list[tuple[Any, ...]] = []
    intents: list[tuple[Any, ...]] = []
    for database in databases.all():
        operations |= {r[0]: r[1:] for r in await database.scan(_OPERATIONS, {}, _all)}
        debts += await database.scan(_DEBTS, {}, _all)
        intents += await database.scan(_INTENTS, {}, _all)
    return Records(
        servers=servers, twice=tuple(twice),
        index={r[0]: r[1:] for r in await g.scan(_INDEX, {}, _all)},
        hosts={r[0]: r[1] for r in await g.scan(_HOSTS, {}, _all)},
        inventories={(r[0], r[1]): (r[2], r[3]) for r in await g.scan(_INVENTORIES, {}, _all)},
        allocations=allocations,
        quotas={(r[0], r[1], r[2]): r[3] for r in await g.scan(_QUOTAS, {}, _all)},
        keypairs={r[0]: r[1] for r in await g.scan(_KEYPAIRS, {}, _all)},
        open_operations=operations, debts=tuple(debts), intents=tuple(intents), actions=tuple(actions),
    )  # fmt: skip
