"""Reads for the operator's command line: overviews of hosts, cells, open operations and debts."""

from __future__ import annotations

from kilonova.db.statement import Statement

_WHY = "an operator's overview, asked for by hand"

HOSTS_OF_CELLS = Statement("SELECT cell, COUNT(*) FROM hosts GROUP BY cell", scans=_WHY)
SERVERS_OF_CELLS = Statement(
    "SELECT cell, COUNT(*) FROM server_index WHERE cell IS NOT NULL GROUP BY cell", scans=_WHY
)
HOSTS = Statement(
    """SELECT h.host, h.cell, h.vcpus, h.memory_mb, p.consumers, COALESCE(s.disabled, 0), COALESCE(s.forced_down, 0),
              h.debts
       FROM hosts h JOIN resource_providers p ON p.uuid = h.uuid
       LEFT JOIN services s ON s.host = h.host AND s.program = 'nova-compute' ORDER BY h.host""",
    scans=_WHY,
)
LIVING_OWNERS = Statement("SELECT incarnation, name, beat FROM owners WHERE ended = 0 ORDER BY name", scans=_WHY)
OPEN_STORIES = Statement(
    "SELECT story, version, COUNT(*) FROM operations WHERE ended_at IS NULL GROUP BY story, version", scans=_WHY
)
OPEN_DEBTS = Statement(
    """SELECT id, holder, kind, resource, operation_id, attempts, error, created_at FROM debts
       WHERE state = 'open' ORDER BY created_at""",
    scans=_WHY,
)
WRITE_OFF = Statement(
    "UPDATE debts SET state = 'written-off', error = :error, updated_at = :now WHERE id = :id AND state = 'open'"
)
PORTS = Statement(
    "SELECT p.id, p.device_id FROM ports p WHERE p.made = 1 AND p.device_id <> ''", scans=_WHY
)
PORT_ADDRESSES = Statement("SELECT port_id, network_id, address FROM port_addresses", scans=_WHY)
