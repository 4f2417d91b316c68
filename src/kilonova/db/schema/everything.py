"""All tables: importing this module imports every file of tables beside it.

A new file in this folder is found by itself; nothing needs to be listed. Table names are unique over
the three collections, because one database may hold them all.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Literal, get_args

from sqlalchemy import MetaData

from kilonova.db import schema
from kilonova.db.schema.metadata import cell_tables, global_tables, journal_tables

Collection = Literal["journal", "global", "cell"]
COLLECTIONS: tuple[Collection, ...] = get_args(Collection)

for _module in pkgutil.iter_modules(schema.__path__):
    if _module.name != "everything":
        importlib.import_module(f"{schema.__name__}.{_module.name}")

_METADATA: dict[Collection, MetaData] = {"journal": journal_tables, "global": global_tables, "cell": cell_tables}


def tables_of(collection: Collection) -> MetaData:
    """Return the tables of one collection, complete."""
    return _METADATA[collection]
