"""The world as it can be looked at from here: ports in the database, sim hosts in their file."""

from __future__ import annotations

from pathlib import Path

from kilonova.conductor.audit import Finding, SeenGuest, World, compare, gather
from kilonova.db.database import Database
from kilonova.db.open import Databases
from kilonova.db.queries import operator as sql

NEEDS_HOSTS = frozenset({
    "guest-on-two-hosts", "guest-leaked", "guest-on-wrong-host", "guest-missing", "power-state-wrong", "disk-leaked",
    "disk-twice", "disk-missing", "tap-leaked",
})  # fmt: skip
"""Kinds of findings that mean nothing when hosts were not looked at."""


async def look(database: Database, sim_world: Path | None) -> World:
    """The world of the global `database` and of the sim hosts, if there are any."""
    addresses: dict[str, list[str]] = {}
    for port, network, address in await database.scan(sql.PORT_ADDRESSES, {}, list):
        addresses.setdefault(port, []).append(f"{network}/{address}")
    ports = tuple(
        (port, server, tuple(addresses.get(port, ())))
        for port, server in await database.scan(sql.PORTS, {}, list)
    )  # fmt: skip
    if sim_world is None:
        return World(ports=ports, has_disks=False)
    from kilonova.compute.virt.sim.world import SimWorld

    world = SimWorld(sim_world)
    try:
        hosts = world.snapshot()
    finally:
        world.close()
    return World(
        guests=tuple(
            SeenGuest(host=host, uuid=guest.uuid, power_state=int(guest.power_state))
            for host, content in hosts.items() for guest in content.guests
        ),
        disks=tuple((host, disk.uuid) for host, content in hosts.items() for disk in content.disks),
        taps=tuple((host, tap.uuid, tap.port) for host, content in hosts.items() for tap in content.taps),
        ports=ports,
    )  # fmt: skip


async def audit(databases: Databases, sim_world: Path | None) -> list[Finding]:
    """What the checker finds; without a sim world what concerns guests, disks and power is left out."""
    records = await gather(databases)
    found = compare(records, await look(databases.global_, sim_world))
    return found if sim_world is not None else [each for each in found if each.kind not in NEEDS_HOSTS]
