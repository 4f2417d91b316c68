"""Services and hypervisors as the API lists and changes them; rows are made by what hosts report."""

from __future__ import annotations

from msgspec import Struct

from kilonova.db.changes import emit
from kilonova.db.database import Tx
from kilonova.db.statement import Row, Statement, Value

# The API calls it `binary`, which is a word of SQL on some databases.
_NAMES = (
    "uuid", "number", "host", "program", "cell", "disabled", "disabled_reason", "forced_down", "version", "generation",
    "created_at", "updated_at",
)  # fmt: skip
_SELECT = f"SELECT {', '.join(f's.{name}' for name in _NAMES)} FROM services s"
ALL = Statement(f"{_SELECT} ORDER BY s.number, s.uuid")
BY_UUID = Statement(f"{_SELECT} WHERE s.uuid = :uuid")
BY_HOST = Statement(f"{_SELECT} WHERE s.host = :host AND s.program = :binary")
BY_NUMBER = Statement(f"{_SELECT} WHERE s.number = :number")
COMPUTE_FLAGS = Statement(
    "SELECT s.host, s.disabled, s.forced_down FROM services s WHERE s.program = 'nova-compute'",
    scans="shown beside every server: all hosts in one read a second",
)
_SET = Statement(
    """UPDATE services SET disabled = :disabled, disabled_reason = :disabled_reason, forced_down = :forced_down,
         generation = generation + 1, updated_at = :now
       WHERE uuid = :uuid"""
)
_DELETE = Statement("DELETE FROM services WHERE uuid = :uuid")


class ServiceRow(Struct, kw_only=True):
    """A service; times in microseconds UTC."""

    uuid: str
    number: int
    host: str
    binary: str
    cell: str | None
    disabled: int
    disabled_reason: str | None
    forced_down: int
    version: int
    generation: int
    created_at: int
    updated_at: int


def service(row: Row) -> ServiceRow:
    """From a row of the statements here."""
    return ServiceRow(**dict(zip(ServiceRow.__struct_fields__, row, strict=True)))


async def change(tx: Tx, row: ServiceRow, now: int) -> bool:
    """Write what an admin may set (disabled, its reason, forced down); False when it is gone. Emits it."""
    params: dict[str, Value] = {
        "uuid": row.uuid, "disabled": row.disabled, "disabled_reason": row.disabled_reason,
        "forced_down": row.forced_down, "now": now,
    }  # fmt: skip
    if not await tx.execute(_SET, params):
        return False
    payload = f'{{"disabled":{row.disabled},"forced_down":{row.forced_down}}}'
    await emit(tx, "service", row.uuid, "", row.generation + 1, payload, now)
    return True


async def delete(tx: Tx, uuid: str) -> bool:
    """False when there is no such service."""
    return await tx.execute(_DELETE, {"uuid": uuid}) == 1


HAS_SERVERS = Statement("SELECT uuid FROM servers WHERE host = :host LIMIT 1")
