"""The three collections of tables."""

from __future__ import annotations

from sqlalchemy import MetaData

journal_tables = MetaData()
"""In every database: operations, steps, debts, changes, owners."""
global_tables = MetaData()
cell_tables = MetaData()
