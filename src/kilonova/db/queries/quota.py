"""Quota as counter rows raised by conditional updates (contracts: 2, Quota).

A row per (project, resource), and one per (project, user, resource) where a user has a limit of his own.
A missing row is made from a count of the server index, so that a limit set later starts out right.
Taken last in a transaction, in sorted order; given back after the thing is gone.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from kilonova.db.database import Database, Tx
from kilonova.db.statement import Statement, Value

CLASS = "default"

_LIMITS = Statement(
    """SELECT scope, resource, limit_value FROM quota_limits
       WHERE (scope = 'class' AND project_id = 'default' AND user_id = '')
          OR (scope = 'project' AND project_id = :project AND user_id = '')
          OR (scope = 'user' AND project_id = :project AND user_id = :user)"""
)
_TAKE = Statement(
    """UPDATE quota_usages SET used = used + :n
       WHERE project_id = :project AND user_id = :user AND resource = :resource AND used + :n <= :most"""
)
_GIVE = Statement(
    """UPDATE quota_usages SET used = used - :n
       WHERE project_id = :project AND user_id IN ('', :user) AND resource = :resource"""
)
_MAKE = Statement(
    "INSERT INTO quota_usages (project_id, user_id, resource, used) VALUES (:project, :user, :resource, :used)"
)
_USED = Statement(
    "SELECT used FROM quota_usages WHERE project_id = :project AND user_id = :user AND resource = :resource"
)
USAGES = Statement("SELECT resource, used FROM quota_usages WHERE project_id = :project AND user_id = :user")
_COUNT = Statement(
    """SELECT COUNT(*), CAST(COALESCE(SUM(vcpus), 0) AS BIGINT), CAST(COALESCE(SUM(memory_mb), 0) AS BIGINT)
       FROM server_index WHERE project_id = :project"""
)
_COUNT_USER = Statement(
    """SELECT COUNT(*), CAST(COALESCE(SUM(vcpus), 0) AS BIGINT), CAST(COALESCE(SUM(memory_mb), 0) AS BIGINT)
       FROM server_index WHERE project_id = :project AND user_id = :user"""
)
LIMITS = _LIMITS
_SET = Statement(
    """UPDATE quota_limits SET limit_value = :value
       WHERE scope = :scope AND project_id = :project AND user_id = :user AND resource = :resource"""
)
_INSERT = Statement(
    """INSERT INTO quota_limits (scope, project_id, user_id, resource, limit_value)
       VALUES (:scope, :project, :user, :resource, :value)"""
)
_DROP = Statement("DELETE FROM quota_limits WHERE scope IN ('project', 'user') AND project_id = :project")
_DROP_USER = Statement("DELETE FROM quota_limits WHERE scope = 'user' AND project_id = :project AND user_id = :user")

_FORGET = Statement("DELETE FROM quota_usages WHERE project_id = :project AND user_id <> ''")
_FORGET_USER = Statement("DELETE FROM quota_usages WHERE project_id = :project AND user_id = :user")

_RANK = {"class": 0, "project": 1, "user": 2}
_UNLIMITED = 1 << 62
_COUNTED = {"instances": 0, "cores": 1, "ram": 2}


class OverQuota(Exception):
    """More was asked for than is left; `message` in the API's words."""

    def __init__(self, over: Mapping[str, tuple[int, int, int]]) -> None:
        """`over`: resource -> (requested, used, limit)."""
        names = ", ".join(sorted(over))
        columns = [", ".join(str(over[name][i]) for name in sorted(over)) for i in range(3)]
        self.message = (
            f"Quota exceeded for {names}: Requested {columns[0]}, but already used {columns[1]} of {columns[2]} {names}"
        )
        super().__init__(self.message)


class Limits(Struct, frozen=True):
    """What holds for a project, and for a user in it where that is stricter."""

    project: Mapping[str, int]
    user: Mapping[str, int]


def resolve(rows: list[tuple[str, str, int]], defaults: Mapping[str, int]) -> Limits:
    """Limits from rows of `LIMITS`: project's before class's before configuration's; a user's apart."""
    project = dict(defaults)
    for scope, resource, value in sorted(rows, key=lambda row: _RANK[row[0]]):
        if scope != "user" and resource in project:
            project[resource] = value
    return Limits(project, {resource: value for scope, resource, value in rows if scope == "user"})


async def take(
    tx: Tx, project: str, user: str, amounts: Mapping[str, int], defaults: Mapping[str, int]
) -> None:
    """Raise the counters of instances, cores and ram by `amounts`, after the index rows are inserted.

    Raises OverQuota: then nothing of the transaction may be kept.
    """
    rows = await tx.fetch(_LIMITS, {"project": project, "user": user})
    limits = resolve([(row[0], row[1], row[2]) for row in rows], defaults)
    over: dict[str, tuple[int, int, int]] = {}
    for resource in sorted(amounts):
        for who, table in (("", limits.project), (user, limits.user)):
            if who and resource not in table:
                continue
            limit = table[resource]
            most = _UNLIMITED if limit < 0 else limit
            key: dict[str, Value] = {"project": project, "user": who, "resource": resource}
            params: dict[str, Value] = {**key, "n": amounts[resource], "most": most}
            if await tx.execute(_TAKE, params):
                continue
            used = await _used(tx, project, who, resource, amounts[resource])
            if not await tx.execute(_TAKE, params):
                over[resource] = (amounts[resource], used, limit)
    if over:
        raise OverQuota(over)


async def give_back(tx: Tx, project: str, user: str, amounts: Mapping[str, int]) -> None:
    """Lower the counters after the thing is gone; `user` is who owned it."""
    for resource in sorted(amounts):
        await tx.execute(_GIVE, {"project": project, "user": user, "resource": resource, "n": amounts[resource]})


async def _used(tx: Tx, project: str, user: str, resource: str, mine: int) -> int:
    """The counter, made from a count where there is none: without `mine`, this transaction's own rows."""
    key = {"project": project, "user": user, "resource": resource}
    row = await tx.fetch_one(_USED, key)
    if row is None:
        statement = _COUNT_USER if user else _COUNT
        counted = await tx.fetch_one(statement, {"project": project, "user": user} if user else {"project": project})
        assert counted is not None
        await tx.insert_if_absent(_MAKE, {**key, "used": max(0, counted[_COUNTED[resource]] - mine)})
        row = await tx.fetch_one(_USED, key)
    return row[0] if row is not None else 0


async def set_limits(tx: Tx, scope: str, project: str, user: str, values: Mapping[str, int]) -> None:
    """Set limits of a project, of a user in it, or of the default class (`scope` project, user, class)."""
    for resource in sorted(values):
        params: dict[str, Value] = {
            "scope": scope, "project": project, "user": user, "resource": resource, "value": values[resource],
        }  # fmt: skip
        if not await tx.execute(_SET, params) and not await tx.insert_if_absent(_INSERT, params):
            await tx.execute(_SET, params)


async def drop_limits(tx: Tx, project: str, user: str) -> None:
    """Back to the defaults: a user's limits, or all of a project when `user` is empty.

    Users' counters go with their limits: they are only kept up while there is a limit.
    """
    if user:
        await tx.execute(_DROP_USER, {"project": project, "user": user})
        await tx.execute(_FORGET_USER, {"project": project, "user": user})
    else:
        await tx.execute(_DROP, {"project": project})
        await tx.execute(_FORGET, {"project": project})


async def counted(database: Database, project: str, user: str) -> dict[str, int]:
    """What a counter would be made of, for a project (or user) that has none yet."""
    statement = _COUNT_USER if user else _COUNT
    row = await database.fetch_one(statement, {"project": project, "user": user} if user else {"project": project})
    return {name: row[i] if row is not None else 0 for name, i in _COUNTED.items()}
