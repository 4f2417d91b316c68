"""Key pairs: the public halves, by user."""

from __future__ import annotations

from msgspec import Struct

from kilonova.db.database import Tx
from kilonova.db.statement import Row, Statement, Value

_COLUMNS = "user_id, name, type, fingerprint, public_key, created_at"
GET = Statement(f"SELECT {_COLUMNS} FROM keypairs WHERE user_id = :user_id AND name = :name")
PAGE = Statement(
    f"SELECT {_COLUMNS} FROM keypairs WHERE user_id = :user_id AND name > :marker"
    " ORDER BY name LIMIT :limit"
)
COUNT = Statement("SELECT COUNT(*) FROM keypairs WHERE user_id = :user_id")
_INSERT = Statement(
    f"INSERT INTO keypairs ({_COLUMNS})"
    " VALUES (:user_id, :name, :type, :fingerprint, :public_key, :created_at)"
)
_TAKE = Statement(
    """UPDATE quota_usages SET used = used + 1
       WHERE project_id = '' AND user_id = :user_id AND resource = 'key_pairs' AND used + 1 <= :most"""
)
_MAKE = Statement(
    """INSERT INTO quota_usages (project_id, user_id, resource, used) VALUES ('', :user_id, 'key_pairs', :used)"""
)
_GIVE = Statement(
    "UPDATE quota_usages SET used = used - 1 WHERE project_id = '' AND user_id = :user_id AND resource = 'key_pairs'"
)
_DELETE = Statement("DELETE FROM keypairs WHERE user_id = :user_id AND name = :name")


class KeyPair(Struct, frozen=True, kw_only=True):
    """A user's key; `created_at` in microseconds UTC."""

    user_id: str
    name: str
    type: str
    fingerprint: str
    public_key: str
    created_at: int


class NameTaken(Exception):
    """The user has a key of that name."""


class TooMany(Exception):
    """The user's quota of keys is used up."""


def keypair(row: Row) -> KeyPair:
    """From a row of `GET` or `PAGE`."""
    user_id, name, kind, fingerprint, public_key, created_at = row
    return KeyPair(
        user_id=user_id, name=name, type=kind, fingerprint=fingerprint, public_key=public_key, created_at=created_at
    )


async def insert(tx: Tx, new: KeyPair, most: int) -> None:
    """Raises NameTaken, TooMany; `most` < 0 is unlimited."""
    row: dict[str, Value] = {
        "user_id": new.user_id, "name": new.name, "type": new.type, "fingerprint": new.fingerprint,
        "public_key": new.public_key, "created_at": new.created_at,
    }  # fmt: skip
    if not await tx.insert_if_absent(_INSERT, row):
        raise NameTaken
    counter: dict[str, Value] = {"user_id": new.user_id, "most": most if most >= 0 else 1 << 62}
    if await tx.execute(_TAKE, counter):
        return
    counted = await tx.fetch_one(COUNT, {"user_id": new.user_id})
    assert counted is not None
    await tx.insert_if_absent(_MAKE, {"user_id": new.user_id, "used": counted[0] - 1})
    if not await tx.execute(_TAKE, counter):
        raise TooMany


async def delete(tx: Tx, user_id: str, name: str) -> bool:
    """False when there is no such key."""
    if not await tx.execute(_DELETE, {"user_id": user_id, "name": name}):
        return False
    await tx.execute(_GIVE, {"user_id": user_id})
    return True
