"""One change per provider that moved, in the transaction that moved it.

The payload is the provider's absolute state with its generation, so that a reader applies it when it is
newer and never needs what came before. Providers belong to no project: tenants' event streams skip them.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from kilonova.db.database import Tx
from kilonova.db.statement import Statement
from kilonova.model.placement import PROVIDER_CHANGED, ProviderState

_encode = msgspec.json.Encoder().encode
_EMIT = {
    kind: Statement(
        f"""INSERT INTO {kind} (kind, subject, project_id, generation, payload, created_at)
            VALUES (:kind, :subject, :project_id, :generation, :payload, :now)"""  # noqa: S608  (a table's name)
    )
    for kind in ("changes", "outbox")
}


async def announce(tx: Tx, states: Iterable[ProviderState], now: int) -> None:
    """Record the states as changes. Call it last: readers are woken by the commit."""
    statement = _EMIT["changes" if tx.dialect == "sqlite" else "outbox"]
    for state in states:
        payload = _encode(state).decode()
        await tx.execute(
            statement,
            {
                "kind": PROVIDER_CHANGED,
                "subject": state.uuid,
                "project_id": "",
                "generation": state.generation,
                "payload": payload,
                "now": now,
            },
        )
