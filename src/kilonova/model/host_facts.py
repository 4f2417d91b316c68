"""What a scheduler reads about hosts: plain values, without arrays or databases."""

from __future__ import annotations

from msgspec import Struct


class HostFact(Struct, frozen=True, gc=False):
    """What a host is, apart from what is used of it."""

    uuid: str
    host: str
    node: str
    cell: str
    generation: int
    hypervisor_version: int
    """major * 1,000,000 + minor * 1,000 + release."""
    supported_instances: str
    """JSON list of (architecture, hypervisor type, vm mode), as stored: equal texts are read once."""
    traits: str
    """JSON list of the provider's traits; equal texts are read once."""
    debts: int = 0
    """How many things it still has to remove."""


class ServiceFact(Struct, frozen=True, gc=False):
    """The compute service of a host."""

    host: str
    generation: int
    disabled: bool = False
    forced_down: bool = False
    beat: int = 0


class AggregateFact(Struct, frozen=True):
    """A host aggregate."""

    uuid: str
    zone: str | None
    metadata: dict[str, str]
    hosts: tuple[str, ...]
    """Names of hosts."""
