"""Every kind of leak, stuck state and double booking, found by comparing records with the world."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

import msgspec
from msgspec import Struct

from kilonova.conductor.audit.records import Records, ServerRecord
from kilonova.conductor.audit.world import World
from kilonova.model.server import Address

_addresses = msgspec.json.Decoder(list[Address])
_NO_GUEST = frozenset({"building", "error", "deleted", "shelved_offloaded"})


class Finding(Struct, frozen=True, order=True):
    """One difference. `kind` is stable: tests and `doctor` name it."""

    kind: str
    subject: str
    detail: str = ""


def compare(records: Records, world: World) -> list[Finding]:
    """All findings on an idle cloud; debts excuse what they name."""
    owed = _Owed(records)
    found = [
        *_stuck(records),
        *_guests(records, world, owed),
        *_leftovers(records, world, owed),
        *_ports(records, world, owed),
        *_claims(records, owed),
        *_index(records),
        *_quotas(records),
    ]
    return sorted(found)


class _Owed:
    """What open debts speak for."""

    def __init__(self, records: Records) -> None:
        self.guests = {(d[2].removeprefix("host:"), d[4]) for d in records.debts}
        self.servers = {d[4] for d in records.debts}


def _stuck(records: Records) -> Iterator[Finding]:
    for operation, (story, state, target, superseded, wake_at) in records.open_operations.items():
        if wake_at is None:
            detail = f"{story} {state} of {target}" + (", superseded" if superseded else "")
            yield Finding("operation-stuck", operation, detail)
    for server in records.servers.values():
        if server.task_state is not None and server.operation_id not in records.open_operations:
            yield Finding("server-stuck", server.uuid, f"{server.vm_state}/{server.task_state}, no operation open")
        elif server.vm_state == "building" and server.operation_id not in records.open_operations:
            yield Finding("server-stuck", server.uuid, "building, no operation open")
        elif server.task_state is None and server.operation_id is not None:
            yield Finding("server-claimed-by-nothing", server.uuid, f"operation {server.operation_id}")
    for operation, name, item, state in records.intents:
        yield Finding("step-without-outcome", f"{operation}/{name}/{item}", f"operation {state}")
    for action, server, what in records.actions:
        yield Finding("action-unfinished", action, f"{what} of {server}")
    for uuid in records.twice:
        yield Finding("server-in-two-cells", uuid)


def _guests(records: Records, world: World, owed: _Owed) -> Iterator[Finding]:
    seen: dict[str, list[str]] = defaultdict(list)
    power: dict[str, int] = {}
    for guest in world.guests:
        seen[guest.uuid].append(guest.host)
        power[guest.uuid] = guest.power_state
    for uuid, hosts in seen.items():
        server = records.servers.get(uuid)
        if len(hosts) > 1:
            yield Finding("guest-on-two-hosts", uuid, ", ".join(sorted(hosts)))
        for host in hosts:
            if (host, uuid) in owed.guests:
                continue
            if server is None or server.vm_state in ("deleted", "shelved_offloaded"):
                yield Finding("guest-leaked", uuid, f"on {host}")
            elif server.host != host:
                yield Finding("guest-on-wrong-host", uuid, f"on {host}, recorded on {server.host}")
            elif server.vm_state == "error" and server.uuid not in owed.servers and _never_ran(server):
                yield Finding("guest-leaked", uuid, f"on {host}, server is in error")
    for server in records.servers.values():
        if server.vm_state in _NO_GUEST or server.task_state == "deleting":
            continue
        if server.uuid not in seen:
            yield Finding("guest-missing", server.uuid, f"recorded {server.vm_state} on {server.host}")
        elif power[server.uuid] != server.power_state:
            yield Finding("power-state-wrong", server.uuid, f"is {power[server.uuid]}, shown {server.power_state}")
        elif (server.vm_state == "active") != (server.power_state == 1) and server.vm_state in ("active", "stopped"):
            yield Finding("power-state-wrong", server.uuid, f"{server.vm_state} with power {server.power_state}")


def _never_ran(server: ServerRecord) -> bool:
    return server.power_state == 0


def _leftovers(records: Records, world: World, owed: _Owed) -> Iterator[Finding]:
    if not world.has_disks:
        return
    guests = {(g.host, g.uuid) for g in world.guests}
    for host, uuid in world.disks:
        if (host, uuid) not in guests and (host, uuid) not in owed.guests:
            yield Finding("disk-leaked", uuid, f"on {host}")
    for host, uuid, port in world.taps:
        if (host, uuid) not in guests and (host, uuid) not in owed.guests:
            yield Finding("tap-leaked", port, f"of {uuid} on {host}")
    for (host, uuid), n in Counter(world.disks).items():
        if n > 1:
            yield Finding("disk-twice", uuid, f"{n} on {host}")
    disks = set(world.disks)
    for host, uuid in guests - disks:
        yield Finding("disk-missing", uuid, f"on {host}")


def _ports(records: Records, world: World, owed: _Owed) -> Iterator[Finding]:
    if world.ports is None:
        return
    owners = {port: server for port, server, _ in world.ports}
    for port, server, _ in world.ports:
        if server not in records.servers and server not in owed.servers:
            yield Finding("port-leaked", port, f"of server {server}, which is gone")
    wanted: dict[str, str] = {}
    for record in records.servers.values():
        if record.vm_state in _NO_GUEST:
            continue
        for address in _addresses.decode(record.addresses):
            wanted[address.port_id] = record.uuid
            if owners.get(address.port_id) != record.uuid:
                yield Finding("port-missing", address.port_id, f"shown by server {record.uuid}")
    for port, server, _ in world.ports:
        running = records.servers.get(server)
        if running is not None and running.vm_state not in _NO_GUEST and port not in wanted:
            yield Finding("port-leaked", port, f"server {server} does not show it")
    for taken, n in Counter(a for _, _, addresses in world.ports for a in addresses).items():
        if n > 1:
            yield Finding("address-twice", taken, f"{n} ports")


def _claims(records: Records, owed: _Owed) -> Iterator[Finding]:
    used: Counter[tuple[str, str]] = Counter()
    for consumer, amounts in records.allocations.items():
        for key, amount in amounts.items():
            used[key] += amount
        server = records.servers.get(consumer)
        hosts = {records.hosts.get(provider) for provider, _ in amounts}
        if consumer in owed.servers:
            continue
        if server is None and consumer not in records.index:
            yield Finding("allocation-leaked", consumer, f"on {sorted(map(str, hosts))}")
        elif server is not None and server.vm_state not in _NO_GUEST and hosts != {server.host}:
            yield Finding("allocation-on-wrong-host", consumer, f"on {sorted(map(str, hosts))}, runs on {server.host}")
        elif server is not None and server.vm_state == "error" and _never_ran(server):
            yield Finding("allocation-leaked", consumer, "server is in error and never ran")
    for server in records.servers.values():
        if server.vm_state not in _NO_GUEST and server.uuid not in records.allocations:
            yield Finding("allocation-missing", server.uuid, f"runs on {server.host}")
    for key in records.inventories.keys() | used.keys():
        provider, name = key
        capacity, recorded = records.inventories.get(key, (0, 0))
        if used[key] != recorded:
            yield Finding("used-wrong", f"{provider}/{name}", f"recorded {recorded}, allocated {used[key]}")
        if used[key] > capacity:
            yield Finding("overbooked", f"{provider}/{name}", f"{used[key]} of {capacity}")


def _index(records: Records) -> Iterator[Finding]:
    for uuid, (_, _, cell, _, _, operation) in records.index.items():
        if cell is None:
            if operation not in records.open_operations:
                yield Finding("server-stuck", uuid, "in no cell, no operation open")
        elif uuid not in records.servers:
            yield Finding("index-leaked", uuid, f"not in {cell}")
    for uuid in records.servers:
        if uuid not in records.index:
            yield Finding("index-missing", uuid)


def _quotas(records: Records) -> Iterator[Finding]:
    counted: Counter[tuple[str, str, str]] = Counter()
    for project, user, _, vcpus, memory, _ in records.index.values():
        for who in ("", user):
            counted[project, who, "instances"] += 1
            counted[project, who, "cores"] += vcpus
            counted[project, who, "ram"] += memory
    for user, n in records.keypairs.items():
        counted["", user, "key_pairs"] = n
    for key, recorded in records.quotas.items():
        if recorded != counted[key]:
            yield Finding("quota-wrong", "/".join(key), f"recorded {recorded}, counted {counted[key]}")
    for (project, user, name), n in counted.items():
        if not user and n and (project, "", name) not in records.quotas:
            yield Finding("quota-wrong", f"{project}//{name}", f"no counter, counted {n}")
