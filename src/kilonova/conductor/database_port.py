"""The port to other databases: an effect runs there once, with a receipt (contracts: 2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import msgspec

from kilonova.conductor.errors import Refused, Transient, UnknownEffect
from kilonova.conductor.ports import CallContext
from kilonova.conductor.story import EFFECTS, Context, Effect, encode
from kilonova.db.database import Database, Tx
from kilonova.db.errors import Busy, CommitUnknown, DatabaseError, StorageFull
from kilonova.db.queries import journal


class DatabasePort:
    """``db:<name>``."""

    def __init__(self, databases: Mapping[str, Database], wake: Callable[[str], None]) -> None:
        """`wake(operation id)`: an effect opened an operation there."""
        self._databases, self._wake = databases, wake

    async def perform(self, target: str, method: str, args: bytes, call: CallContext) -> bytes:
        database = self._databases[target]
        effect = EFFECTS[method]
        source = self._databases["global"]
        try:
            # Before the transaction: one transaction, one database.
            given = None
            if effect.reads is not None and source is not database:
                given = await effect.reads(source, msgspec.json.decode(args, type=effect.args))
            context = replace(call.context, given=given, opened=[])
            output = await database.write(_once, (effect, args, call.key, context))
        except (Busy, StorageFull) as error:
            raise Transient("The database is busy.", "database", str(error)) from error
        except CommitUnknown as error:
            raise UnknownEffect("The database did not answer.", "database", str(error)) from error
        except Refused:
            raise
        except DatabaseError as error:
            raise Transient("The database cannot be reached.", "database", str(error)) from error
        for opened in context.opened:
            self._wake(opened)
        return output


async def _once(tx: Tx, args: tuple[Effect, bytes, str, Context]) -> bytes:
    effect, encoded, key, context = args
    receipt = {"operation_id": context.operation_id, "step": key}
    row = await tx.fetch_one(journal.FIND_RECEIPT, receipt)
    if row is not None:
        return str(row[0]).encode()
    value = await effect.function(tx, msgspec.json.decode(encoded, type=effect.args), context)
    output = encode(value)
    await tx.execute(journal.INSERT_RECEIPT, {**receipt, "output": output.decode(), "now": context.now})
    return output
