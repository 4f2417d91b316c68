"""SQL of the identity records: everything after a version, and changes that name the version they saw."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from kilonova.db.database import Database, Tx
from kilonova.db.statement import Params, Row, Statement

T = TypeVar("T")

VERSION = Statement("SELECT version, trimmed FROM identity_versions WHERE name = 'identity'")
AFTER = Statement(
    "SELECT version, kind, id, deleted, body FROM identity_records WHERE version > :after ORDER BY version"
)
_BEGIN = Statement("INSERT INTO identity_versions (name, version, trimmed) VALUES ('identity', 0, 0)")
_ADVANCE = Statement("UPDATE identity_versions SET version = :next WHERE name = 'identity' AND version = :seen")
_UPDATE = Statement(
    """UPDATE identity_records SET version = :version, deleted = :deleted, body = :body, changed_at = :now
       WHERE kind = :kind AND id = :id"""
)
_INSERT = Statement(
    """INSERT INTO identity_records (kind, id, version, deleted, body, changed_at)
       VALUES (:kind, :id, :version, :deleted, :body, :now)"""
)
_TRIM_TO = Statement(
    """UPDATE identity_versions SET trimmed = (SELECT MAX(version) FROM identity_records
         WHERE deleted = 1 AND changed_at < :before AND version > trimmed)
       WHERE name = 'identity' AND EXISTS (SELECT 1 FROM identity_records
         WHERE deleted = 1 AND changed_at < :before AND version > trimmed)"""
)
_TRIM = Statement("DELETE FROM identity_records WHERE deleted = 1 AND changed_at < :before")
_TRIM_REVOCATIONS = Statement(
    "DELETE FROM identity_records WHERE kind = 'revocation' AND deleted = 0 AND changed_at < :revoked_before"
)


class Write(NamedTuple):
    """One record to write; `body` "" deletes it."""

    kind: str
    id: str
    body: str


class Batch(NamedTuple):
    """Records to write together, decided on the data of version `seen`; `now` in microseconds UTC."""

    seen: int
    writes: Sequence[Write]
    now: int


class Trim(NamedTuple):
    """How far to forget, in microseconds UTC."""

    before: int
    revoked_before: int


async def commit(tx: Tx, batch: Batch) -> bool:
    """Write a batch; False (and nothing written) when there are changes after `seen`.

    The counter's row is locked first, so identity changes commit one after the other.
    """
    version = batch.seen + 1
    if not await tx.execute(_ADVANCE, {"seen": batch.seen, "next": version}) and (
        batch.seen
        or not await tx.insert_if_absent(_BEGIN, {})
        or not await tx.execute(_ADVANCE, {"seen": 0, "next": version})
    ):
        return False
    for kind, id_, body in batch.writes:
        row: Params = {
            "kind": kind, "id": id_, "body": body, "deleted": int(not body), "version": version, "now": batch.now
        }  # fmt: skip
        if not await tx.execute(_UPDATE, row):
            await tx.execute(_INSERT, row)
    return True


async def trim(tx: Tx, upto: Trim) -> None:
    """Forget old tombstones, and revocations of tokens that have ended by themselves."""
    await tx.execute(_TRIM_TO, {"before": upto.before})
    await tx.execute(_TRIM, {"before": upto.before})
    await tx.execute(_TRIM_REVOCATIONS, {"revoked_before": upto.revoked_before})


async def version(db: Database) -> tuple[int, int]:
    """(version of the newest change, version up to which deletions may be forgotten)."""
    row = await db.fetch_one(VERSION, {})
    return (row[0], row[1]) if row else (0, 0)


async def after(db: Database, seen: int, fold: Callable[[list[Row]], T]) -> T:
    """`fold` of the rows (version, kind, id, deleted, body) changed after `seen`, in order. Away from the loop."""
    return await db.scan(AFTER, {"after": seen}, fold)
