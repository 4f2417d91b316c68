"""Opening an operation together with the effect that asked for it (contracts: 1.1, 1.17, 1.18).

Whoever changes a server's state on a user's behalf calls `open_operation` in the same transaction;
a conductor finds the row by wake or by poll and runs its story.
"""

from __future__ import annotations

from kilonova.db.database import Tx
from kilonova.db.statement import Statement
from kilonova.model.operation import NewOperation

_INSERT = Statement(
    """INSERT INTO operations (id, story, version, state, target, number, owner, epoch, inputs, before_image, result,
         error, superseded, forward_only, spent_us, wake_at, request_id, user_id, project_id, created_at,
         updated_at, ended_at)
       VALUES (:id, :story, :version, 'ready', :target, :number, NULL, 0, :inputs, :before, NULL,
         NULL, 0, 0, 0, NULL, :request_id, :user_id, :project_id, :now, :now, NULL)"""
)
_SUPERSEDE = Statement(
    """UPDATE operations SET superseded = 1, updated_at = :now
       WHERE target = :target AND number < :number AND ended_at IS NULL AND superseded = 0 AND id <> :spared"""
)


async def open_operation(tx: Tx, operation: NewOperation) -> None:
    """Insert a ready operation."""
    await tx.execute(
        _INSERT,
        {
            "id": operation.id,
            "story": operation.story,
            "version": operation.version,
            "target": operation.target,
            "number": operation.number,
            "inputs": operation.inputs.decode(),
            "before": operation.before,
            "request_id": operation.request_id,
            "user_id": operation.user_id,
            "project_id": operation.project_id,
            "now": operation.created_at,
        },
    )


async def supersede_lane(tx: Tx, target: str, number: int, now: int, *, spared: str = "") -> int:
    """Take the whole lane of `target` below `number` away from its owners; how many were open.

    `spared`: an operation of that lane that does this itself, and ends by itself.
    """
    return await tx.execute(_SUPERSEDE, {"target": target, "number": number, "now": now, "spared": spared})
