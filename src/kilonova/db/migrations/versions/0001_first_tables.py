"""The first tables. Until the first release they are the tables as `db.schema` describes them now."""

from __future__ import annotations

from alembic.operations import Operations

from kilonova.db.schema.everything import Collection, tables_of

revision = "0001"
down_revision = None


def upgrade(op: Operations, collection: Collection) -> None:
    tables_of(collection).create_all(op.get_bind(), checkfirst=False)
