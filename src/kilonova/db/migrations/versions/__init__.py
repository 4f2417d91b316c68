"""One file a change of the tables, ``NNNN_what.py``: ``upgrade(op, collection)`` for each collection apart.

Expand first, backfill in batches, contract one release later. They run without a connection (Alembic's
offline mode) and so never read rows; what must read is a backfill elsewhere.
"""
