"""What a scheduler is asked and what it answers.

A `Request` is complete: the scheduler looks nothing up while it decides. A `Choice` always explains
itself, whether or not hosts were found. Pure values: no arrays, no databases.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct


class Request(Struct, frozen=True, kw_only=True):
    """Places for one or more equal servers."""

    servers: tuple[str, ...]
    """Uuids of the servers to place, one place each: the consumers of the claims that follow."""
    resources: dict[str, int]
    """Resource class -> amount, per server."""
    required: frozenset[str] = frozenset()
    """Traits a host must have."""
    forbidden: frozenset[str] = frozenset()
    zone: str | None = None
    """None = any."""
    host: str | None = None
    node: str | None = None
    force: bool = False
    """With `host` or `node`: only capacity and traits are looked at, no other filter runs."""
    exclude: frozenset[str] = frozenset()
    """Uuids of hosts that were tried already."""
    cell: str | None = None
    """Only hosts of this cell (a build retried, a move)."""
    image: dict[str, str] = {}
    """Image properties."""
    extra_specs: dict[str, str] = {}
    hints: dict[str, list[str]] = {}
    project_id: str = ""
    user_id: str = ""
    alternates: int = 2
    """How many further hosts of the same cell to name beside each chosen one."""
    seed: int = 0
    """Picks among near-equal hosts; journaled by the caller."""


class HostRef(Struct, frozen=True, array_like=True, gc=False):
    """A host, as others need it to act."""

    uuid: str
    """Also its resource provider."""
    host: str
    node: str
    cell: str
    zone: str


class Place(Struct, frozen=True, array_like=True):
    """Where one server goes, and where it would go next."""

    server: str
    host: HostRef
    alternates: tuple[HostRef, ...] = ()


class GiveBack(Struct, frozen=True):
    """Places that were chosen and will not be claimed."""

    servers: tuple[str, ...]


class FilterStep(Struct, frozen=True, array_like=True, gc=False):
    """One filter in order."""

    name: str
    """Nova's name of the filter, with what it looked at in brackets: ``CapacityFilter (VCPU)``."""
    left: int
    """Hosts left after it."""


class Weight(Struct, frozen=True, array_like=True):
    """What one host scored."""

    host: str
    node: str
    score: float
    parts: dict[str, float]
    """Weigher -> its part of the score, multiplier included."""


class Explanation(Struct, frozen=True):
    """Why these hosts, or why none."""

    hosts: int
    """How many hosts there were at the start."""
    steps: tuple[FilterStep, ...] = ()
    weights: tuple[Weight, ...] = ()
    """Of the chosen host and the runner-up."""
    wanted: int = 1
    places: int | None = None
    """When hosts passed but have too little room for all servers together: how many would fit."""

    @property
    def culprit(self) -> FilterStep | None:
        """The filter that left no host."""
        return next((step for step in self.steps if step.left == 0), None)

    def for_owner(self) -> str:
        """The fault message: filters by name, no counts that tell the cloud's size."""
        if not self.hosts:
            return "No valid host was found. There are no compute hosts."
        if (culprit := self.culprit) is None:
            return f"No valid host was found. There is not room for all {self.wanted} servers at once."
        passed = [step.name for step in self.steps if step.left]
        before = f" Passed: {', '.join(passed)}." if passed else ""
        return f"No valid host was found. No host was left by {culprit.name}.{before}"

    def for_admin(self) -> str:
        """The same with how many hosts each filter left."""
        trail = "; ".join(f"{step.name}: {step.left}" for step in self.steps)
        text = f"No valid host was found. {self.hosts} hosts; {trail}." if trail else self.for_owner()
        if self.places is not None:
            text += f" Room for {self.places} of {self.wanted} servers."
        return text


class Choice(Struct, frozen=True):
    """The answer: a place for every server, or none at all."""

    places: tuple[Place, ...]
    explanation: Explanation

    def __bool__(self) -> bool:
        return bool(self.places)


def demand(
    *,
    vcpus: int,
    memory_mb: int,
    disk_gb: int,
    extra_specs: Mapping[str, str],
    image: Mapping[str, str],
) -> tuple[dict[str, int], frozenset[str], frozenset[str]]:
    """Turn a flavor and image properties into (resources, required traits, forbidden traits).

    `disk_gb`: root (0 when booted from a volume) + ephemeral + swap rounded up. ``resources:CLASS=n`` overrides or
    adds, 0 removes; ``trait:NAME=required|forbidden`` in extra specs, ``required`` only in image properties.
    """
    resources = {"VCPU": vcpus, "MEMORY_MB": memory_mb, "DISK_GB": disk_gb}
    required: set[str] = set()
    forbidden: set[str] = set()
    for key, value in extra_specs.items():
        scope, _, name = key.partition(":")
        if scope == "resources" and value.isdigit():
            resources[name] = int(value)
        elif scope == "trait" and value == "required":
            required.add(name)
        elif scope == "trait" and value == "forbidden":
            forbidden.add(name)
    for key, value in image.items():
        if key.startswith("trait:") and value == "required":
            required.add(key[6:])
    return {k: n for k, n in resources.items() if n}, frozenset(required), frozenset(forbidden)
