"""SQL of what hosts report: services, which host holds which guest, power states."""

from __future__ import annotations

from kilonova.db.statement import Statement

LAST_SERVICE = Statement("SELECT COALESCE(MAX(number), 0) FROM services")
INSERT_SERVICE = Statement(
    """INSERT INTO services (uuid, number, host, program, cell, disabled, disabled_reason, forced_down, incarnation,
         beat, report_seq, version, generation, created_at, updated_at)
       VALUES (:uuid, :number, :host, :program, :cell, 0, NULL, 0, NULL, 0, 0, :version, 1, :now, :now)"""
)
ON_HOST = Statement(
    """SELECT uuid, vm_state, task_state, power_state, generation, host_number FROM servers WHERE host = :host"""
)
ONE = Statement(
    """SELECT host, vm_state, task_state, power_state, generation, host_number FROM servers WHERE uuid = :uuid"""
)
POWER = Statement(
    """UPDATE servers SET power_state = :power_state, generation = generation + 1, updated_at = :now
       WHERE uuid = :uuid AND generation = :generation AND host = :host"""
)
KNOWN = Statement("SELECT uuid FROM servers WHERE uuid = :uuid")
"""Whether a guest that a host shows has a server here."""
