"""How databases get their tables and change them.

`HEAD` is the version of the tables that this code works with: the number of the newest file in
`versions`. It stands here as a plain number so that a start with an up-to-date database imports neither
SQLAlchemy nor Alembic.
"""

HEAD = 1
