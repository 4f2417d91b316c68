"""Every operation of the Compute API, collected from the files that declare them."""

from __future__ import annotations

from collections.abc import Iterable

from kilonova.api import absent, compute_services, events, extensions, hypervisors, keypairs, zones
from kilonova.api.flavors import extra_specs, managing, reading
from kilonova.api.operation import Operation
from kilonova.api.quotas import limits, sets
from kilonova.api.servers import actions, create, facets, history, listing, metadata, single

_DECLARING = (
    create, listing, single, actions, facets, metadata, history, reading, managing, extra_specs, keypairs, limits,
    sets, compute_services, hypervisors, zones, extensions, events,
)  # fmt: skip


def all_operations() -> Iterable[Operation]:
    """Return the operations in no particular order."""
    for module in _DECLARING:
        yield from module.OPERATIONS
    yield from absent.operations()
