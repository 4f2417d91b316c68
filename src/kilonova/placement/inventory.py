"""What a host reports becomes its row, its provider, inventories and traits; only what changed is written.

A report that says nothing new costs reads only and raises no generation. Inventories and traits that
others put on the provider (other classes, custom traits) stay. An inventory may shrink below what is
used: then nothing more fits until something leaves.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from kilonova.db.database import Tx
from kilonova.db.queries import host_inventory as sql
from kilonova.db.queries import placement as claims_sql
from kilonova.db.queries.host_inventory import Inventory
from kilonova.db.statement import Row, Value
from kilonova.model.guest import HostFacts
from kilonova.model.placement import HostReport, Ratios
from kilonova.placement.announce import announce, announce_host

_encode = msgspec.json.Encoder().encode
_decode_traits = msgspec.json.Decoder(list[str]).decode
_BATCH = 500


class HostTaken(Exception):
    """Another host (other uuid) goes by this node name: one of the two has lost or copied its identity file."""


class Recorded(Struct, frozen=True):
    """What a batch of reports changed."""

    new: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()


def inventories_from(facts: HostFacts, ratios: Ratios) -> dict[str, Inventory]:
    """VCPU, MEMORY_MB and DISK_GB as Nova sets them at first: max_unit is the total, min and step 1."""
    wanted = {
        "VCPU": (facts.vcpus, ratios.reserved_cpus, ratios.cpu),
        "MEMORY_MB": (facts.memory_mb, ratios.reserved_memory_mb, ratios.ram),
        "DISK_GB": (facts.local_gb, ratios.reserved_disk_gb, ratios.disk),
    }
    return {
        name: Inventory((total, min(reserved, total), 1, total, 1, float(ratio)))
        for name, (total, reserved, ratio) in wanted.items()
        if total > 0
    }


async def record_host(tx: Tx, report: HostReport, ratios: Ratios) -> Recorded:
    """Record one host's report. Raises HostTaken."""
    return await record_hosts(tx, (report,), ratios)


async def record_hosts(tx: Tx, reports: Sequence[HostReport], ratios: Ratios) -> Recorded:
    """Record many at once (the hosts one process speaks for). Raises HostTaken."""
    new: list[str] = []
    changed: list[str] = []
    for at in range(0, len(reports), _BATCH):
        part = sorted(reports[at : at + _BATCH], key=lambda r: r.uuid)
        uuids = [r.uuid for r in part]
        rows = await sql.hosts_by_uuid(tx, uuids)
        have = await sql.inventories_of(tx, uuids)
        number = await sql.last_number(tx) if len(rows) < len(part) else 0
        moved: list[str] = []
        for report in part:
            row = rows.get(report.uuid)
            if row is None:
                number += 1
                await _insert(tx, report, number)
                new.append(report.uuid)
            elif await _describe(tx, report, row):
                changed.append(report.uuid)
            if await _equip(tx, report, ratios, have[report.uuid], set(_decode_traits(row[-1])) if row else set()):
                moved.append(report.uuid)
        if moved:
            states = await claims_sql.states(tx, moved)
            # `settled` empty: such a state says nothing about claims under way.
            await announce(tx, [msgspec.structs.replace(s, settled=()) for s in states.values()], part[0].now)
            changed += [uuid for uuid in moved if uuid in rows and uuid not in changed]
    return Recorded(tuple(new), tuple(changed))


def _fields(report: HostReport) -> dict[str, Value]:
    facts = report.facts
    return {
        "host": report.host,
        "node": report.node,
        "cell": report.cell,
        "hypervisor_type": facts.hypervisor_type,
        "hypervisor_version": facts.hypervisor_version,
        "host_ip": facts.host_ip,
        "arch": facts.arch,
        "vcpus": facts.vcpus,
        "memory_mb": facts.memory_mb,
        "local_gb": facts.local_gb,
        "free_disk_gb": facts.free_disk_gb,
        "cpu_info": facts.cpu_info,
        "supported_instances": _encode(facts.supported_instances).decode(),
        "traits": _encode(sorted(facts.traits)).decode(),
    }


async def _insert(tx: Tx, report: HostReport, number: int) -> None:
    if not await sql.insert_host(tx, report.uuid, number, _fields(report), report.now):
        raise HostTaken(f"node {report.node} is known under another uuid than {report.uuid}")
    if not await sql.insert_provider(tx, report.uuid, report.node, report.now):
        raise HostTaken(f"a resource provider named {report.node} exists under another uuid than {report.uuid}")
    await announce_host(tx, report.uuid, 1, report.now)


async def _describe(tx: Tx, report: HostReport, row: Row) -> bool:
    """Bring the row of `hosts` up to date; whether anything differed."""
    fields = _fields(report)
    differ = {name for name, old in zip(sql.HOST_FIELDS, row, strict=True) if old != fields[name]}
    if not differ:
        return False
    generation = await sql.update_host(tx, report.uuid, fields, report.now)
    if "node" in differ:
        await sql.rename_provider(tx, report.uuid, report.node, report.now)
    if differ != {"free_disk_gb"}:
        await announce_host(tx, report.uuid, generation, report.now)
    return True


async def _equip(
    tx: Tx, report: HostReport, ratios: Ratios, have: dict[str, Inventory], old_traits: set[str]
) -> bool:
    """Bring inventories and traits up to date; whether anything differed."""
    wanted = inventories_from(report.facts, ratios)
    for name in wanted.keys() & have.keys():
        wanted[name] = Inventory((*wanted[name][:5], have[name][5]))  # an operator's own ratio stays
    differ = {name: inventory for name, inventory in wanted.items() if have.get(name) != inventory}
    traits = set(report.facts.traits)
    if not differ and traits == old_traits:
        return False
    if not await claims_sql.lock_provider(tx, report.uuid, 0, report.now):
        # Somebody deleted the provider of a host that lives.
        if not await sql.insert_provider(tx, report.uuid, report.node, report.now):
            raise HostTaken(f"a resource provider named {report.node} exists under another uuid than {report.uuid}")
        await claims_sql.lock_provider(tx, report.uuid, 0, report.now)
        old_traits = set()
    for name, inventory in differ.items():
        await sql.put_inventory(tx, report.uuid, name, inventory, known=name in have)
    if traits != old_traits:
        await sql.change_traits(tx, report.uuid, traits - old_traits, old_traits - traits, report.now)
    return True
