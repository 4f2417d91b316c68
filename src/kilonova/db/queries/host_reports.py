"""SQL of what hosts report: which host holds which guest, power states."""

from __future__ import annotations

from kilonova.db.statement import Statement

ON_HOST = Statement(
    """SELECT uuid, vm_state, task_state, power_state, generation, host_number, updated_at
       FROM servers WHERE host = :host"""
)
ONE = Statement(
    """SELECT host, vm_state, task_state, power_state, generation, host_number, updated_at
       FROM servers WHERE uuid = :uuid"""
)
POWER = Statement(
    """UPDATE servers SET power_state = :power_state, generation = generation + 1, updated_at = :now
       WHERE uuid = :uuid AND generation = :generation AND host = :host"""
)
STOPPED = Statement(
    """UPDATE servers SET task_state = 'powering-off', operation_id = :operation_id, next_number = next_number + 1,
         generation = generation + 1, updated_at = :now
       WHERE uuid = :uuid AND generation = :generation AND vm_state = 'active' AND task_state IS NULL"""
)
KNOWN = Statement("SELECT uuid FROM servers WHERE uuid = :uuid")
"""Whether a guest that a host shows has a server here."""
