"""Availability zones: what aggregates say of hosts."""

from __future__ import annotations

from kilonova.db.statement import Statement

ZONES = Statement("SELECT DISTINCT availability_zone FROM aggregates WHERE availability_zone IS NOT NULL")
HOST_EXISTS = Statement("SELECT 1 FROM hosts WHERE host = :host")
NODE_EXISTS = Statement("SELECT 1 FROM hosts WHERE node = :node")
ZONE_OF_HOSTS = Statement(
    """SELECT h.host, a.availability_zone FROM aggregate_hosts h JOIN aggregates a ON a.uuid = h.aggregate
       WHERE a.availability_zone IS NOT NULL"""
)
