"""Whose address it is, for the metadata service."""

from __future__ import annotations

from kilonova.db.statement import Statement

# By the primary key, network after network: an address alone is no key, and networks are few.
SERVERS_OF_ADDRESS = Statement(
    """SELECT p.device_id FROM networks n
       JOIN port_addresses a ON a.network_id = n.id AND a.address = :address
       JOIN ports p ON p.id = a.port_id LIMIT 2""",
    scans="of networks, with one look-up each",
)
