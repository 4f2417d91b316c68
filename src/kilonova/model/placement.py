"""Claims on providers, and a provider's state as others may know it.

Amounts are whole units of their resource class; times microseconds UTC. Nothing here says how a claim
is stored: the embedded Placement and a real one answer with the same values.
"""

from __future__ import annotations

from msgspec import Struct

from kilonova.model.guest import HostFacts

PROVIDER_CHANGED = "provider"
"""Kind of the change whose payload is a `ProviderState`."""
HOST_CHANGED = "host"
"""Kind of the change that says: what a host is (its row, its traits) changed; read it. The subject is its uuid."""
GONE = 0
"""Generation of the change that says: a host's provider was deleted."""
SERVICE_CHANGED = "service"
"""Kind of the change that says: a service was enabled, disabled, forced down; the subject is its uuid."""
AGGREGATE_CHANGED = "aggregate"
"""Kind of the change that says: a host aggregate (zone, metadata, hosts) changed; the subject is its uuid."""


class Claim(Struct, frozen=True, kw_only=True):
    """One consumer's whole claim on one provider."""

    consumer: str
    project_id: str
    user_id: str
    provider: str
    resources: dict[str, int]
    """Resource class -> amount, each > 0."""
    now: int
    type: str = "INSTANCE"


class Claimed(Struct, frozen=True):
    """All claims hold."""

    generations: dict[str, int]
    """Provider -> generation of its state after the claim (as it is now, when the claim was there before)."""


class Conflict(Struct, frozen=True):
    """Nothing was claimed."""

    reason: str
    provider: str = ""
    """The first provider that could not take its part; empty when it is the consumer that is in conflict."""
    code: str = "placement.undefined_code"
    """Placement's error code."""


class ClassUsage(Struct, frozen=True, array_like=True, gc=False):
    """One resource class of a provider."""

    capacity: int
    """(total - reserved) * allocation ratio, rounded down."""
    used: int
    max_unit: int
    min_unit: int = 1
    step_size: int = 1


class ProviderState(Struct, frozen=True):
    """A provider's absolute state; the higher generation is the newer."""

    uuid: str
    generation: int
    """Counts every change. The generation of Placement's API is another number: some changes leave that alone."""
    consumers: int
    usage: dict[str, ClassUsage]
    settled: tuple[str, ...] | None = None
    """Consumers whose claims this state has taken in or let go; None = not known."""


class HostReport(Struct, frozen=True, kw_only=True):
    """What becomes of a host's report about itself: its row, its provider, its inventories, its traits."""

    uuid: str
    host: str
    node: str
    cell: str
    facts: HostFacts
    now: int


class Ratios(Struct, frozen=True, kw_only=True):
    """How much more than there is may be promised, and what is kept back (Nova's initial_* and reserved_host_*)."""

    cpu: float = 4.0
    ram: float = 1.0
    disk: float = 1.0
    reserved_cpus: int = 0
    reserved_memory_mb: int = 512
    reserved_disk_gb: int = 0


def misfit(name: str, amount: int, usage: ClassUsage | None) -> str | None:
    """Why `amount` of class `name` cannot be taken from `usage`, or None when it can."""
    if usage is None:
        return f"no inventory of {name}"
    if amount < usage.min_unit or amount > usage.max_unit or amount % usage.step_size:
        return (
            f"{amount} {name} breaks the rules of the inventory "
            f"(min_unit {usage.min_unit}, max_unit {usage.max_unit}, step_size {usage.step_size})"
        )
    if usage.used + amount > usage.capacity:
        return f"not enough {name}: {usage.capacity - usage.used} free, {amount} requested"
    return None
