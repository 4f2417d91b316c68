"""The statements that take a collection of tables from one version to `HEAD`.

Alembic orders the version files and spells their operations in a dialect, without a connection; who
runs the statements is `db.migrate`. Importing this module imports SQLAlchemy and Alembic: slow, rare.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, cast

from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory

from kilonova.db.migrations import HEAD
from kilonova.db.schema.everything import Collection
from kilonova.db.url import Dialect


class _Version(Protocol):
    def upgrade(self, op: Operations, collection: Collection) -> None: ...


class _Statements:
    """A stand-in for a text file: Alembic writes one statement a call."""

    def __init__(self) -> None:
        self.all: list[str] = []

    def write(self, text: str) -> None:
        statement = text.strip().removesuffix(";").strip()
        if statement:
            self.all.append(statement)

    def flush(self) -> None:
        """Nothing is held back."""


def versions() -> list[str]:
    """Return the revisions of the version files, oldest first."""
    scripts = ScriptDirectory(str(Path(__file__).parent))
    return [script.revision for script in reversed(list(scripts.walk_revisions()))]


def plan(dialect: Dialect, collection: Collection, version: int) -> list[str]:
    """Return the statements from `version` (0: nothing there yet) to `HEAD`, in order."""
    scripts = ScriptDirectory(str(Path(__file__).parent))
    out = _Statements()
    context = MigrationContext.configure(dialect_name=dialect, opts={"as_sql": True, "output_buffer": out})
    with Operations.context(context) as op:
        for number in range(version + 1, HEAD + 1):
            script = scripts.get_revision(f"{number:04d}")
            if script is None:
                raise LookupError(f"version file {number:04d} is missing")
            cast(_Version, script.module).upgrade(op, collection)
    return out.all
