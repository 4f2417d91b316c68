"""Many servers in a database at once: copies of one that the cloud made, written directly while it is down."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PROJECTS = 4
"""The copies are spread over the original's project and three others."""


def fill(database: Path, count: int) -> None:
    """Insert `count` copies of the newest server, with their index rows; older than everything there."""
    con = sqlite3.connect(database)
    try:
        for table in ("servers", "server_index"):
            columns = [row[1] for row in con.execute(f"PRAGMA table_info({table})")]
            newest = "SELECT uuid FROM servers ORDER BY created_at DESC LIMIT 1"
            row = con.execute(f"SELECT * FROM {table} WHERE uuid = ({newest})").fetchone()
            places = ", ".join("?" for _ in columns)
            copies = _copies(dict(zip(columns, row, strict=True)), count)
            con.executemany(f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({places})", copies)
        con.commit()
    finally:
        con.close()


def _copies(one: dict[str, Any], count: int) -> Iterator[tuple[Any, ...]]:
    project = one["project_id"]
    for n in range(count):
        one["uuid"] = str(uuid.UUID(int=(n * 0x9E3779B97F4A7C15F39CC0605CEDC835) % (1 << 128)))
        one["project_id"] = project if n % PROJECTS == 0 else f"{n % PROJECTS:032x}"
        if "number" in one:
            one["number"] = 1_000_000 + n
        for name in ("created_at", "updated_at"):
            if name in one:
                one[name] -= 1000
        yield tuple(one.values())
