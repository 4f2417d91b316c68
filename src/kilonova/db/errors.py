"""What the databases raise.

::

    DatabaseError
    +-- UniqueViolation    an insert met an existing key (caught by insert-if-absent)
    +-- Busy               retried five times and still in conflict: 503 at the API
    +-- StorageFull        the disk is full: writes fail, reads go on
    +-- Unavailable        the server cannot be reached; nothing was changed
    +-- CommitUnknown      the connection broke while committing: done or not, ask by key
    +-- Closed             the database was closed meanwhile
    +-- BadParameter       a value of the wrong type was bound: a bug in the caller
    +-- SchemaTooNew       the tables were made by a newer kilonova: refused
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


class Unavailable(DatabaseError):
    """The database server does not answer; the transaction certainly had no effect."""


class CommitUnknown(DatabaseError):
    """The connection broke after COMMIT was sent: the transaction may or may not have happened."""


class Closed(DatabaseError):
    """The database is closed."""


class BadParameter(DatabaseError):
    """A bound value has a type that its column does not take."""


class SchemaTooNew(DatabaseError):
    """The tables belong to a newer version of kilonova than this one."""
