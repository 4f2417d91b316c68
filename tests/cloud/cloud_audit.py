"""Whether records and world of a cloud agree: the proven checker over DIR, from outside."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

from kilonova.compute.virt.mark import read_cloud_id
from kilonova.compute.virt.sim.world import SimWorld
from kilonova.conductor.audit import Finding, Records, SeenGuest, World, compare, gather
from kilonova.db.open import Databases, one_file, open_databases
from kilonova.db.statement import Statement

_PORTS = Statement("SELECT id, device_id, network_id FROM ports WHERE made = 1", scans="an audit")
_ADDRESSES = Statement("SELECT port_id, network_id, address FROM port_addresses", scans="an audit")
Ports = tuple[tuple[str, str, tuple[str, ...]], ...]


async def _ports(databases: Databases) -> Ports:
    def rows(found: list[tuple[object, ...]]) -> list[tuple[object, ...]]:
        return found

    taken: dict[str, list[str]] = {}
    for port, network, address in await databases.global_.scan(_ADDRESSES, {}, rows):
        taken.setdefault(str(port), []).append(f"{network}/{address}")
    found = await databases.global_.scan(_PORTS, {}, rows)
    return tuple((str(p), str(server), tuple(taken.get(str(p), ()))) for p, server, _ in found)


def sim_world(folder: Path, ports: Ports) -> World:
    world = SimWorld(folder / "sim" / "world.db")
    try:
        hosts = world.snapshot()
    finally:
        world.close()
    return World(
        guests=tuple(
            SeenGuest(host=h, uuid=g.uuid, power_state=int(g.power_state)) for h, c in hosts.items() for g in c.guests
        ),
        disks=tuple((h, d.uuid) for h, content in hosts.items() for d in content.disks),
        taps=tuple((h, t.uuid, t.port) for h, content in hosts.items() for t in content.taps),
        ports=ports,
    )


def virsh(*words: str, uri: str = "qemu:///system") -> str:
    """What virsh prints; AssertionError when it fails."""
    done = subprocess.run(
        ["virsh", "-q", "-c", uri, *words], capture_output=True, text=True, timeout=60, check=False
    )  # fmt: skip
    assert done.returncode == 0, f"virsh {' '.join(words)}: {done.stderr}"
    return done.stdout


def domains(folder: Path, uri: str = "qemu:///system") -> dict[str, str]:
    """uuid -> state, of this cloud's guests, as virsh tells it."""
    cloud = read_cloud_id(folder)
    found = {}
    for uuid in virsh("list", "--all", "--uuid", uri=uri).split():
        done = subprocess.run(
            ["virsh", "-q", "-c", uri, "metadata", uuid, "https://kilonova.invalid/xmlns/1"],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        if done.returncode == 0 and str(cloud) in done.stdout:
            found[uuid] = virsh("domstate", uuid, uri=uri).strip()
    return found


def libvirt_world(folder: Path, host: str, ports: Ports) -> World:
    states = {"running": 1, "paused": 3, "shut off": 4, "crashed": 6}
    instances = folder / "instances"
    disks = [p.name for p in instances.iterdir()] if instances.is_dir() else []
    return World(
        guests=tuple(SeenGuest(host=host, uuid=u, power_state=states[s]) for u, s in domains(folder).items()),
        disks=tuple((host, uuid) for uuid in disks),
        ports=ports,
    )


async def look(folder: Path, driver: str) -> tuple[Records, list[Finding]]:
    """(records, what the checker finds) now."""
    async with await open_databases(one_file(folder), create=False) as databases:
        records = await gather(databases)
        ports = await _ports(databases)
        if driver == "sim":
            world = await asyncio.to_thread(sim_world, folder, ports)
        else:
            (host,) = records.hosts.values()
            world = await asyncio.to_thread(libvirt_world, folder, host, ports)
        return records, compare(records, world)


async def clean(folder: Path, driver: str = "sim", seconds: float = 30.0) -> Records:
    """The records once the checker finds nothing and nothing is owed; AssertionError with what it finds."""
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        records, found = await look(folder, driver)
        if not found and not records.debts:
            return records
        assert asyncio.get_running_loop().time() < deadline, (found, records.debts)
        await asyncio.sleep(0.3)
