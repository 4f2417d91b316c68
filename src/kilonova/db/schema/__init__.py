"""The tables, described once with SQLAlchemy Core; imported only to create or change a database.

Two kinds that never join across: `global_tables` and `cell_tables`; the journal stands in every database.
Running services know tables only through the SQL text in `db.queries`.
"""
