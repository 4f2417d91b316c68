"""One change per provider that moved, in the transaction that moved it.

The payload is the provider's absolute state with its generation, so that a reader applies it when it is
newer and never needs what came before. Providers belong to no project: tenants' event streams skip them.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from kilonova.db import changes
from kilonova.db.database import Tx
from kilonova.model.placement import HOST_CHANGED, PROVIDER_CHANGED, ProviderState

_encode = msgspec.json.Encoder().encode


async def announce(tx: Tx, states: Iterable[ProviderState], now: int) -> None:
    """Record the states as changes."""
    for state in states:
        await changes.emit(tx, PROVIDER_CHANGED, state.uuid, "", state.generation, _encode(state), now)


async def announce_host(tx: Tx, uuid: str, generation: int, now: int) -> None:
    """Record that what a host is (its row, its traits) changed."""
    await changes.emit(tx, HOST_CHANGED, uuid, "", generation, "{}", now)
