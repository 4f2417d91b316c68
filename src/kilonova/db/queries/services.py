"""Services: their rows, their beats, and what admins set.

A row is made by whoever first hears of the service. What the scheduler must notice (a service made, switched,
deleted) is emitted; beats are not: who judges them reads them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from uuid import NAMESPACE_URL, uuid5

import msgspec
from msgspec import Struct

from kilonova.db.changes import emit
from kilonova.db.database import Database, Tx
from kilonova.db.statement import Row, Statement, Value, in_list, in_values
from kilonova.model.placement import GONE, SERVICE_CHANGED

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
_LAST = Statement("SELECT COALESCE(MAX(number), 0) FROM services")
_FIND = Statement("SELECT uuid FROM services WHERE host = :host AND program = :program")
_INSERT = Statement(
    """INSERT INTO services (uuid, number, host, program, cell, disabled, disabled_reason, forced_down, incarnation,
         beat, report_seq, version, generation, created_at, updated_at)
       VALUES (:uuid, :number, :host, :program, :cell, 0, NULL, 0, NULL, 0, 0, :version, 1, :now, :now)"""
)
_BEATS = Statement(
    "SELECT s.host, s.program, s.beat FROM services s", scans="who judges beats looks at all of them"
)
_VERSION = 1
"""What a service that runs this code can do; counts up with what others must know of it."""
_TRIES = 10
_AT_ONCE = 512


@cache
def _beat(count: int) -> Statement:
    return Statement(
        "UPDATE services SET beat = beat + 1, updated_at = :now"
        f" WHERE program = :program AND host IN {in_list('hosts', count)[0]}"
    )


@cache
def _there(count: int) -> Statement:
    return Statement(f"SELECT host FROM services WHERE program = :program AND host IN {in_list('hosts', count)[0]}")


BEAT_4, THERE_4 = _beat(4), _there(4)
"""As they look, for tools which walk the statements."""
_encode = msgspec.json.Encoder().encode


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
    await emit(tx, SERVICE_CHANGED, row.uuid, "", row.generation + 1, payload, now)
    return True


async def delete(tx: Tx, uuid: str, now: int) -> bool:
    """False when there is no such service. Emits that it is gone; a host that lives is entered anew."""
    row = await tx.fetch_one(BY_UUID, {"uuid": uuid})
    if row is None or not await tx.execute(_DELETE, {"uuid": uuid}):
        return False
    gone = service(row)
    payload = _encode({"host": gone.host, "program": gone.binary})
    await emit(tx, SERVICE_CHANGED, uuid, "", GONE, payload, now)
    return True


def service_uuid(host: str, program: str) -> str:
    """A service's id: the same however often it is entered."""
    return str(uuid5(NAMESPACE_URL, f"kilonova:service:{program}:{host}"))


async def enter(tx: Tx, host: str, program: str, cell: str | None, now: int) -> bool:
    """Make a service's row with the next number; False when it has one. Emits it."""
    uuid = service_uuid(host, program)
    for _ in range(_TRIES):
        if await tx.fetch_one(_FIND, {"host": host, "program": program}) is not None:
            return False
        row = await tx.fetch_one(_LAST, {})
        params: dict[str, Value] = {
            "uuid": uuid, "number": (row[0] if row else 0) + 1, "host": host, "program": program, "cell": cell,
            "version": _VERSION, "now": now,
        }  # fmt: skip
        if await tx.insert_if_absent(_INSERT, params):
            await emit(tx, SERVICE_CHANGED, uuid, "", 1, '{"disabled":0,"forced_down":0}', now)
            return True
    return False


async def without(tx: Tx, hosts: Sequence[str], program: str) -> list[str]:
    """Those of `hosts` that have no such service, in their order."""
    there: set[str] = set()
    for part in _parts(hosts):
        params = {"program": program, **in_values("hosts", [*part])}
        there |= {row[0] for row in await tx.fetch(_there(_size(part)), params)}
    return [host for host in hosts if host not in there]


async def beat(tx: Tx, hosts: Sequence[str], program: str, now: int) -> int:
    """Count one beat of each; how many there were."""
    found = 0
    for part in _parts(sorted(hosts)):
        found += await tx.execute(_beat(_size(part)), {"program": program, "now": now, **in_values("hosts", [*part])})
    return found


async def beats(database: Database) -> list[Row]:
    """(host, program, beat) of every service."""
    return await database.scan(_BEATS, {}, list)


def _parts(hosts: Sequence[str]) -> list[Sequence[str]]:
    return [hosts[at : at + _AT_ONCE] for at in range(0, len(hosts), _AT_ONCE)]


def _size(part: Sequence[str]) -> int:
    """So that lists of nearly the same length share a statement."""
    return 1 << (len(part) - 1).bit_length()


HAS_SERVERS = Statement("SELECT uuid FROM servers WHERE host = :host LIMIT 1")
