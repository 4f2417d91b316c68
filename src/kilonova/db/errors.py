"""What the databases raise.

::

    DatabaseError
    +-- UniqueViolation    an insert met an existing key (caught by insert-if-absent)
    +-- Busy               retried five times and still in conflict: 503 at the API
    +-- StorageFull        the disk is full: writes fail, reads go on
    +-- Closed             the database was closed meanwhile
"""

from __future__ import annotations


class DatabaseError(Exception):
    """Base of what the executor raises."""


class UniqueViolation(DatabaseError):
    """A unique key is taken."""


class Busy(DatabaseError):
    """The transaction lost against others again and again."""


class StorageFull(DatabaseError):
    """There is no room left to write."""


class Closed(DatabaseError):
    """The database is closed."""
