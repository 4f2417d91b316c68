"""Answers kept under an `Idempotency-Key`, per project and user (contracts: 7)."""

from __future__ import annotations

from msgspec import Struct

from kilonova.db.database import Tx
from kilonova.db.statement import Statement, Value

KEPT_US = 24 * 3600 * 1_000_000

FIND = Statement(
    """SELECT body_hash, status, body, headers FROM idempotency
       WHERE project_id = :project AND user_id = :user AND key_hash = :key AND created_at > :since"""
)
_INSERT = Statement(
    """INSERT INTO idempotency (project_id, user_id, key_hash, body_hash, status, body, headers, created_at)
       VALUES (:project, :user, :key, :body_hash, :status, :body, :headers, :now)"""
)
_EXPIRE = Statement(
    """DELETE FROM idempotency
       WHERE project_id = :project AND user_id = :user AND key_hash = :key AND created_at <= :since"""
)


class Taken(Exception):
    """Another request has stored its answer under this key meanwhile."""


class Answer(Struct, frozen=True):
    """What a first request was answered."""

    body_hash: str
    status: int
    """0 while it still runs."""
    body: str
    """JSON, without secrets."""
    headers: str
    """JSON object."""


class Key(Struct, frozen=True):
    """Whose key it is; `digest` is its SHA-256."""

    project: str
    user: str
    digest: str


def params(key: Key, now: int) -> dict[str, str | int]:
    """Parameters of `FIND`."""
    return {"project": key.project, "user": key.user, "key": key.digest, "since": now - KEPT_US}


async def keep(tx: Tx, key: Key, answer: Answer, now: int) -> None:
    """Store an answer with the effect it tells of. Raises Taken."""
    await tx.execute(_EXPIRE, params(key, now))
    row: dict[str, Value] = {
        "project": key.project, "user": key.user, "key": key.digest, "body_hash": answer.body_hash,
        "status": answer.status, "body": answer.body, "headers": answer.headers, "now": now,
    }  # fmt: skip
    if not await tx.insert_if_absent(_INSERT, row):
        raise Taken
