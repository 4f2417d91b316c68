"""Small clouds in columns, and the scheduler's rules once more, one host at a time, to compare with."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from kilonova.model.host_facts import AggregateFact, HostFact, ServiceFact
from kilonova.model.placement import ClassUsage, ProviderState
from kilonova.model.scheduling import Choice, Request
from kilonova.scheduler import strategies
from kilonova.scheduler.columns import HostColumns
from kilonova.scheduler.filters import registry as filters
from kilonova.scheduler.select import select
from kilonova.scheduler.weighers import registry as weighers

X86 = ("x86_64", "kvm", "hvm")
SMALL = {"VCPU": 1, "MEMORY_MB": 512, "DISK_GB": 1}


@dataclass
class Host:
    """One host of a small cloud."""

    number: int
    vcpus: int = 16
    memory_mb: int = 8192
    disk_gb: int = 100
    used: dict[str, int] = field(default_factory=dict)
    traits: tuple[str, ...] = ()
    zone: str | None = None
    up: bool = True
    disabled: bool = False
    supports: tuple[tuple[str, str, str], ...] = (X86,)
    version: int = 8_000_000
    cell: str = "cell1"
    max_unit: dict[str, int] = field(default_factory=dict)
    rules: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Class -> (min_unit, step_size)."""

    @property
    def uuid(self) -> str:
        return f"host-{self.number:04d}"

    @property
    def name(self) -> str:
        return f"h{self.number}"

    @property
    def capacity(self) -> dict[str, int]:
        return {"VCPU": self.vcpus, "MEMORY_MB": self.memory_mb, "DISK_GB": self.disk_gb}

    def free(self, name: str) -> int:
        return self.capacity[name] - self.used.get(name, 0)

    def state(self, generation: int = 1, settled: tuple[str, ...] | None = None) -> ProviderState:
        usage = {
            name: ClassUsage(
                capacity, self.used.get(name, 0), self.max_unit.get(name, capacity), *self.rules.get(name, (1, 1))
            )
            for name, capacity in self.capacity.items()
        }
        return ProviderState(self.uuid, generation, len(self.used), usage, settled)


def build(hosts: list[Host], size: int = 2) -> HostColumns:
    """Columns that hold these hosts; a small `size` makes them grow on the way."""
    columns = HostColumns(size)
    for host in hosts:
        put(columns, host)
    zones = {host.zone for host in hosts if host.zone}
    columns.put_aggregates(
        AggregateFact(f"agg-{zone}", zone, {}, tuple(h.name for h in hosts if h.zone == zone)) for zone in sorted(zones)
    )
    return columns


def put(columns: HostColumns, host: Host, generation: int = 1) -> None:
    columns.put_service(ServiceFact(host.name, generation, disabled=host.disabled))
    columns.put_host(
        HostFact(
            host.uuid, host.name, host.name, host.cell, generation, host.version, json.dumps(host.supports),
            json.dumps(sorted(host.traits)),
        )
    )  # fmt: skip
    columns.set_up(columns.row[host.uuid], host.up)
    columns.apply(host.state(generation))


def request(*servers: str, **asked: object) -> Request:
    """A request for one small server, unless told otherwise."""
    base: dict[str, object] = {"servers": servers or ("s1",), "resources": SMALL}
    return Request(**(base | asked))  # type: ignore[arg-type]  # what is literal in the tests


def choose(
    columns: HostColumns, asked: Request, strategy: str = "filter", now: float = 0.0, **weights: float
) -> Choice:
    return select(columns, filters.build(), strategies.build(strategy, weighers.build(None, weights)), asked, now)


def chosen(choice: Choice) -> list[str]:
    return [place.host.host for place in choice.places]


def passes(host: Host, asked: Request) -> bool:
    """Whether a host passes all filters, by the rules as written down."""
    if asked.host is not None and host.name != asked.host:
        return False
    if not asked.force:
        if not host.up or host.disabled:
            return False
        if asked.zone is not None and (host.zone or "nova") != asked.zone:
            return False
        arch = asked.image.get("hw_architecture")
        if arch and not any(s[0] == arch for s in host.supports):
            return False
    if not asked.required <= set(host.traits) or asked.forbidden & set(host.traits):
        return False
    if host.uuid in asked.exclude:
        return False
    for name, amount in asked.resources.items():
        least, step = host.rules.get(name, (1, 1))
        if name not in host.capacity or amount > host.free(name) or amount % step or amount < least:
            return False
        if amount > host.max_unit.get(name, host.capacity[name]):
            return False
    return True


def score(host: Host, among: list[Host], multipliers: dict[str, float]) -> float:
    """Nova's sum of normalised weights."""
    total = 0.0
    for name, multiplier in multipliers.items():
        values = [h.free(name) for h in among]
        low, high = min(values), max(values)
        if high > low:
            total += multiplier * (host.free(name) - low) / (high - low)
    return total
