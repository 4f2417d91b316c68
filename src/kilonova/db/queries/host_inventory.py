"""SQL of what hosts report about themselves: their row, provider, inventories and traits."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache

import msgspec

from kilonova.db.database import Tx
from kilonova.db.statement import Params, Row, Statement, Value, in_list, in_values

_encode = msgspec.json.Encoder().encode
HOST_FIELDS = (
    "host", "node", "cell", "hypervisor_type", "hypervisor_version", "host_ip", "arch", "vcpus", "memory_mb",
    "local_gb", "free_disk_gb", "cpu_info", "supported_instances", "traits",
)  # fmt: skip
"""Columns of `hosts` that a report sets, in the order of `hosts_by_uuid`."""

_SELECT_SQL = f"SELECT uuid, {', '.join(HOST_FIELDS)} FROM hosts WHERE uuid IN "
_INSERT_HOST = Statement(
    f"""INSERT INTO hosts (uuid, number, {", ".join(HOST_FIELDS)}, debts, generation, created_at, updated_at)
        VALUES (:uuid, :number, {", ".join(":" + f for f in HOST_FIELDS)}, 0, 1, :now, :now)"""
)
_UPDATE_HOST = Statement(
    f"""UPDATE hosts SET {", ".join(f"{f} = :{f}" for f in HOST_FIELDS)},
        generation = generation + 1, updated_at = :now WHERE uuid = :uuid"""
)
_GENERATION = Statement("SELECT generation FROM hosts WHERE uuid = :uuid")
_LAST_NUMBER = Statement("SELECT MAX(number) FROM hosts")
_INSERT_PROVIDER = Statement(
    """INSERT INTO resource_providers (uuid, name, parent, root, generation, revision, consumers, traits,
         created_at, updated_at)
       VALUES (:uuid, :name, :parent, :root, :generation, 1, 0, '[]', :now, :now)"""
)
_RENAME_PROVIDER = Statement("UPDATE resource_providers SET name = :name, updated_at = :now WHERE uuid = :uuid")
_INVENTORIES_SQL = """SELECT provider, resource_class, total, reserved, min_unit, max_unit, step_size,
                      allocation_ratio FROM inventories WHERE provider IN """
_INSERT_INVENTORY = Statement(
    """INSERT INTO inventories (provider, resource_class, total, reserved, min_unit, max_unit, step_size,
         allocation_ratio, capacity, used)
       VALUES (:provider, :resource_class, :total, :reserved, :min_unit, :max_unit, :step_size,
         :allocation_ratio, :capacity, 0)"""
)
_UPDATE_INVENTORY = Statement(
    """UPDATE inventories SET total = :total, reserved = :reserved, min_unit = :min_unit, max_unit = :max_unit,
         step_size = :step_size, allocation_ratio = :allocation_ratio, capacity = :capacity
       WHERE provider = :provider AND resource_class = :resource_class"""
)
_DELETE_UNUSED = Statement(
    "DELETE FROM inventories WHERE provider = :provider AND resource_class = :resource_class AND used = 0"
)
_INSERT_TRAIT = Statement("INSERT INTO provider_traits (provider, trait) VALUES (:provider, :trait)")
_DELETE_TRAIT = Statement("DELETE FROM provider_traits WHERE provider = :provider AND trait = :trait")
_TRAITS = Statement("SELECT trait FROM provider_traits WHERE provider = :provider ORDER BY trait")
_COPY_TRAITS = Statement("UPDATE resource_providers SET traits = :traits WHERE uuid = :provider")
_INSERT_CUSTOM_TRAIT = Statement("INSERT INTO traits (name, created_at) VALUES (:name, :now)")


class Inventory(tuple[int, int, int, int, int, float]):
    """(total, reserved, min_unit, max_unit, step_size, allocation_ratio), as stored."""

    __slots__ = ()

    @property
    def capacity(self) -> int:
        """How much may be allocated."""
        return int((self[0] - self[1]) * self[5])


@cache
def _listing(sql: str, name: str, count: int) -> Statement:
    return Statement(sql + in_list(name, count)[0])


def _in(sql: str, name: str, values: Sequence[str]) -> tuple[Statement, dict[str, Value]]:
    listed: list[Value] = list(values)
    return _listing(sql, name, 1 << (len(listed) - 1).bit_length()), in_values(name, listed)


async def hosts_by_uuid(tx: Tx, uuids: Sequence[str]) -> dict[str, Row]:
    """Rows of `HOST_FIELDS` by uuid; at most 1,000 uuids."""
    return {row[0]: row[1:] for row in await tx.fetch(*_in(_SELECT_SQL, "uuid", uuids))}


async def last_number(tx: Tx) -> int:
    row = await tx.fetch_one(_LAST_NUMBER, {})
    return (row[0] if row else None) or 0


async def insert_host(tx: Tx, uuid: str, number: int, fields: Params, now: int) -> bool:
    """False when the uuid or the node's name is taken."""
    return await tx.insert_if_absent(_INSERT_HOST, {"uuid": uuid, "number": number, **fields, "now": now})


async def update_host(tx: Tx, uuid: str, fields: Params, now: int) -> int:
    """The row's generation after the change."""
    await tx.execute(_UPDATE_HOST, {"uuid": uuid, **fields, "now": now})
    row = await tx.fetch_one(_GENERATION, {"uuid": uuid})
    return row[0] if row else 0


async def insert_provider(
    tx: Tx, uuid: str, name: str, now: int, parent: str | None = None, root: str | None = None, generation: int = 0
) -> bool:
    """Insert a provider; False when its uuid or name is taken."""
    params: dict[str, Value] = {
        "uuid": uuid, "name": name, "parent": parent, "root": root or uuid, "generation": generation, "now": now
    }  # fmt: skip
    return await tx.insert_if_absent(_INSERT_PROVIDER, params)


async def rename_provider(tx: Tx, uuid: str, name: str, now: int) -> None:
    await tx.execute(_RENAME_PROVIDER, {"uuid": uuid, "name": name, "now": now})


async def inventories_of(tx: Tx, providers: Sequence[str]) -> dict[str, dict[str, Inventory]]:
    """Inventories by provider and class; at most 1,000 providers."""
    found: dict[str, dict[str, Inventory]] = {p: {} for p in providers}
    for provider, name, *values in await tx.fetch(*_in(_INVENTORIES_SQL, "provider", providers)):
        found[provider][name] = Inventory(values)
    return found


def _inventory_params(provider: str, name: str, inventory: Inventory) -> dict[str, Value]:
    total, reserved, min_unit, max_unit, step_size, ratio = inventory
    return {
        "provider": provider, "resource_class": name, "total": total, "reserved": reserved, "min_unit": min_unit,
        "max_unit": max_unit, "step_size": step_size, "allocation_ratio": float(ratio), "capacity": inventory.capacity,
    }  # fmt: skip


async def put_inventory(tx: Tx, provider: str, name: str, inventory: Inventory, *, known: bool) -> None:
    """Insert or, when `known`, change one inventory. Under the provider's lock."""
    statement = _UPDATE_INVENTORY if known else _INSERT_INVENTORY
    await tx.execute(statement, _inventory_params(provider, name, inventory))


async def delete_inventory(tx: Tx, provider: str, name: str) -> bool:
    """Delete one inventory unless it is in use. Under the provider's lock."""
    return await tx.execute(_DELETE_UNUSED, {"provider": provider, "resource_class": name}) == 1


async def traits_of(tx: Tx, provider: str) -> list[str]:
    """A provider's traits, sorted."""
    return [row[0] for row in await tx.fetch(_TRAITS, {"provider": provider})]


async def change_traits(tx: Tx, provider: str, add: Iterable[str], drop: Iterable[str], now: int) -> None:
    """Add and drop traits of a provider; new custom ones come to be. Under the provider's lock."""
    for trait in sorted(add):
        if trait.startswith("CUSTOM_"):
            await tx.insert_if_absent(_INSERT_CUSTOM_TRAIT, {"name": trait, "now": now})
        await tx.insert_if_absent(_INSERT_TRAIT, {"provider": provider, "trait": trait})
    for trait in sorted(drop):
        await tx.execute(_DELETE_TRAIT, {"provider": provider, "trait": trait})
    names = _encode(await traits_of(tx, provider)).decode()
    await tx.execute(_COPY_TRAITS, {"provider": provider, "traits": names})
