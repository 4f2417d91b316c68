"""Every operation of the Compute API, collected from the files that declare them."""

from __future__ import annotations

from collections.abc import Iterable

from kilonova.api import keypairs
from kilonova.api.flavors import reading as flavor_reading
from kilonova.api.operation import Operation
from kilonova.api.servers import actions, create, listing, single

_DECLARING = (create, listing, single, actions, flavor_reading, keypairs)


def all_operations() -> Iterable[Operation]:
    """Return the operations in no particular order."""
    for module in _DECLARING:
        yield from module.OPERATIONS  # type: ignore[attr-defined]  # every declaring module has it
