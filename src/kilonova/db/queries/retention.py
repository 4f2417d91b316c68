"""SQL that lets old journal rows go: ended operations with their steps, receipts, requests answered once."""

from __future__ import annotations

from kilonova.db.database import Tx
from kilonova.db.statement import Statement, Value

_OLD = Statement(
    """SELECT id FROM operations WHERE ended_at IS NOT NULL AND ended_at < :before
       AND NOT EXISTS (SELECT 1 FROM debts d WHERE d.operation_id = operations.id
                       AND d.state IN ('open', 'written-off'))
       ORDER BY ended_at LIMIT :limit"""
)
_DROP_STEPS = Statement("DELETE FROM steps WHERE operation_id = :id")
_DROP_RECEIPTS = Statement("DELETE FROM receipts WHERE operation_id = :id")
_DROP_DEBTS = Statement("DELETE FROM debts WHERE operation_id = :id AND state NOT IN ('open', 'written-off')")
_DROP = Statement("DELETE FROM operations WHERE id = :id AND ended_at IS NOT NULL")
_DROP_REQUESTS = Statement("DELETE FROM idempotency WHERE created_at < :before AND status <> 0")


async def drop_ended(tx: Tx, args: tuple[int, int]) -> int:
    """Remove up to `limit` operations that ended before `before` (microseconds) and owe nothing."""
    before, limit = args
    rows = await tx.fetch(_OLD, {"before": before, "limit": limit})
    for (operation_id,) in rows:
        key: dict[str, Value] = {"id": operation_id}
        await tx.execute(_DROP_STEPS, key)
        await tx.execute(_DROP_DEBTS, key)
        await tx.execute(_DROP, key)
    return len(rows)


OLD_RECEIPTS = Statement(
    "SELECT operation_id FROM receipts WHERE created_at < :before ORDER BY created_at LIMIT :limit"
)
IS_KNOWN = Statement("SELECT 1 FROM operations WHERE id = :id")


async def drop_receipts(tx: Tx, operations: list[str]) -> None:
    """Remove the receipts of operations that no database knows any more."""
    for operation_id in operations:
        await tx.execute(_DROP_RECEIPTS, {"id": operation_id})


async def drop_requests(tx: Tx, before: int) -> int:
    """Remove answers kept for repeated requests (`Idempotency-Key`) that are older than `before`."""
    return await tx.execute(_DROP_REQUESTS, {"before": before})
