"""Global tables of the embedded identity service: small records that every process holds in memory.

A record is written under a version of the whole identity data, so that a reader needs only what is newer
than what it has, and a writer that decided on old data changes nothing.
"""

from __future__ import annotations

from sqlalchemy import Index, Table

from kilonova.db.schema.metadata import global_tables
from kilonova.db.schema.types import bigint, json, text, time

identity_versions = Table(
    "identity_versions", global_tables,
    text("name", 16, primary_key=True),  # one row: "identity"
    bigint("version"),  # of the newest change
    bigint("trimmed"),  # tombstones up to here may be gone: whoever is behind reads everything
)  # fmt: skip

identity_records = Table(
    "identity_records", global_tables,
    text("kind", 24, primary_key=True),  # user, project, grant, ...
    text("id", 191, primary_key=True),
    bigint("version"),
    bigint("deleted"),  # a tombstone: 1, with an empty body
    json("body"),  # passwords hashed, EC2 secrets sealed
    time("changed_at"),
    Index("identity_records_version", "version"),
    Index("identity_records_changed", "deleted", "changed_at"),
)  # fmt: skip
