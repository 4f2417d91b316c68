"""Flavors, their extra specs and who may use the private ones."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from kilonova.db.database import Tx
from kilonova.db.statement import Row, Statement, Value

_COLUMNS = """flavor_id, name, vcpus, memory_mb, root_gb, ephemeral_gb, swap_mb, rxtx_factor, is_public, disabled,
    description, extra_specs, generation, created_at, updated_at"""
_NAMES = [name.strip() for name in _COLUMNS.split(",")]

GET = Statement(f"SELECT {_COLUMNS} FROM flavors WHERE flavor_id = :flavor_id")
ALL = Statement(f"SELECT {_COLUMNS} FROM flavors ORDER BY flavor_id")
MAY_USE = Statement("SELECT flavor_id FROM flavor_access WHERE project_id = :project_id")
ACCESS = Statement("SELECT project_id FROM flavor_access WHERE flavor_id = :flavor_id ORDER BY project_id")
_INSERT = Statement(
    f"INSERT INTO flavors ({_COLUMNS}) VALUES ({', '.join(':' + name for name in _NAMES)})"
)
_DELETE = Statement("DELETE FROM flavors WHERE flavor_id = :flavor_id")
_DROP_ACCESS = Statement("DELETE FROM flavor_access WHERE flavor_id = :flavor_id")
_DESCRIBE = Statement(
    """UPDATE flavors SET description = :description, generation = generation + 1, updated_at = :now
       WHERE flavor_id = :flavor_id"""
)
_SPECS = Statement("SELECT extra_specs, generation FROM flavors WHERE flavor_id = :flavor_id")
_SET_SPECS = Statement(
    """UPDATE flavors SET extra_specs = :extra_specs, generation = generation + 1, updated_at = :now
       WHERE flavor_id = :flavor_id AND generation = :generation"""
)
_GRANT = Statement("INSERT INTO flavor_access (flavor_id, project_id) VALUES (:flavor_id, :project_id)")
_REVOKE = Statement("DELETE FROM flavor_access WHERE flavor_id = :flavor_id AND project_id = :project_id")


class FlavorRow(Struct, kw_only=True):
    """A flavor; sizes in MiB and GiB as named, times in microseconds UTC."""

    flavor_id: str
    name: str
    vcpus: int
    memory_mb: int
    root_gb: int
    ephemeral_gb: int = 0
    swap_mb: int = 0
    rxtx_factor: float = 1.0
    is_public: int = 1
    disabled: int = 0
    description: str | None = None
    extra_specs: dict[str, str] = {}
    generation: int = 1
    created_at: int = 0
    updated_at: int | None = None


class NameTaken(Exception):
    """A flavor of that id or name exists."""


class NoFlavor(Exception):
    """There is no such flavor."""


_decode = msgspec.json.Decoder(dict[str, str]).decode


def flavor(row: Row) -> FlavorRow:
    """From a row of `GET` or `ALL`."""
    made = FlavorRow(**dict(zip(_NAMES, row, strict=True)))
    made.extra_specs = _decode(made.extra_specs)  # type: ignore[arg-type]  # the column is text
    return made


async def insert(tx: Tx, new: FlavorRow) -> None:
    """Raises NameTaken."""
    params: dict[str, Value] = {name: getattr(new, name) for name in _NAMES}
    params["extra_specs"] = msgspec.json.encode(new.extra_specs).decode()
    if not await tx.insert_if_absent(_INSERT, params):
        raise NameTaken


async def delete(tx: Tx, flavor_id: str) -> bool:
    """False when there is no such flavor."""
    await tx.execute(_DROP_ACCESS, {"flavor_id": flavor_id})
    return await tx.execute(_DELETE, {"flavor_id": flavor_id}) == 1


async def describe(tx: Tx, flavor_id: str, description: str | None, now: int) -> bool:
    """Set the description; False when there is no such flavor."""
    params = {"flavor_id": flavor_id, "description": description, "now": now}
    return await tx.execute(_DESCRIBE, params) == 1


async def change_specs(tx: Tx, flavor_id: str, put: dict[str, str], drop: tuple[str, ...], now: int) -> dict[str, str]:
    """Set and remove extra specs; the specs afterwards. Raises NoFlavor, KeyError (nothing to remove)."""
    while True:
        row = await tx.fetch_one(_SPECS, {"flavor_id": flavor_id})
        if row is None:
            raise NoFlavor(flavor_id)
        specs = _decode(row[0])
        specs.update(put)
        for key in drop:
            del specs[key]
        text = msgspec.json.encode(specs).decode()
        params = {"flavor_id": flavor_id, "extra_specs": text, "generation": row[1], "now": now}
        if await tx.execute(_SET_SPECS, params):
            return specs


async def grant(tx: Tx, flavor_id: str, project_id: str) -> bool:
    """False when the project had access already."""
    return await tx.insert_if_absent(_GRANT, {"flavor_id": flavor_id, "project_id": project_id})


async def revoke(tx: Tx, flavor_id: str, project_id: str) -> bool:
    """False when the project had no access."""
    return await tx.execute(_REVOKE, {"flavor_id": flavor_id, "project_id": project_id}) == 1
