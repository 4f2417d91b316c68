"""What is done now and then: old journal rows go, ports that nobody owns are swept.

The sweep is the other half of "a zombie's late create is found there, not prevented" (contracts: 1.15): a
server that is gone for two rounds in a row and still holds ports loses them. Idempotent; any number of
conductors may do it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from kilonova.db.database import Database
from kilonova.db.queries import journal, placing
from kilonova.db.queries.retention import IS_KNOWN, OLD_RECEIPTS, drop_ended, drop_receipts, drop_requests
from kilonova.log import get_logger
from kilonova.network.port import NetworkPort, NetworkUnavailable

log = get_logger(__name__)

KEPT_US = 48 * 3600 * 1_000_000
"""How long ended operations are kept, for people who ask what happened."""
REQUESTS_US = 24 * 3600 * 1_000_000
_BATCH = 50
_TURN = 50
"""Reads between two turns of the event loop."""


class Housekeeping:
    """Rounds over the databases of one conductor."""

    def __init__(
        self, global_: Database, databases: Sequence[Database], network: NetworkPort, now_us: Callable[[], int]
    ) -> None:
        self._global, self._databases, self._network, self._now = global_, databases, network, now_us
        self._suspects: set[str] = set()

    async def retire(self) -> int:
        """Remove old operations in small transactions; how many."""
        removed = 0
        for database in self._databases:
            while True:
                n = await database.write(drop_ended, (self._now() - KEPT_US, _BATCH))
                removed += n
                if n < _BATCH:
                    break
        for database in self._databases:
            while await self._retire_receipts(database):
                pass
        await self._global.write(drop_requests, self._now() - REQUESTS_US)
        return removed

    async def _retire_receipts(self, database: Database) -> int:
        """A receipt stands in another database than its operation, and goes after it; how many operations' went."""
        rows = await database.fetch(OLD_RECEIPTS, {"before": self._now() - KEPT_US, "limit": _BATCH})
        orphans = []
        for operation_id in dict.fromkeys(row[0] for row in rows):
            known = [await d.fetch_one(IS_KNOWN, {"id": operation_id}) for d in self._databases]
            if not any(known):
                orphans.append(operation_id)
        if orphans:
            await database.write(drop_receipts, orphans)
        return len(orphans)

    async def sweep(self) -> int:
        """Remove ports whose server is gone; how many servers had some."""
        gone: set[str] = set()
        after = ""
        try:
            while page := await self._network.held(after):
                for n, (_, server) in enumerate(page):
                    if await self._is_gone(server):
                        gone.add(server)
                    if n % _TURN == 0:
                        await asyncio.sleep(0)  # reads on SQLite do not give the loop back by themselves
                after = page[-1][0]
            swept = gone & self._suspects
            for server in swept:
                log.warning("server %s is gone and still held ports: they are removed", server)
                await self._network.ensure_no_ports(server)
        except NetworkUnavailable as error:
            log.info("ports are not swept: %s", error)
            return 0
        self._suspects = gone - swept
        return len(swept)

    async def _is_gone(self, server: str) -> bool:
        """No record and no debt: what a host that is away may still use is not for others yet."""
        if await self._global.fetch_one(placing.FIND, {"uuid": server}) is not None:
            return False
        for database in self._databases:
            if await database.fetch_one(journal.OWES, {"resource": server}) is not None:
                return False
        return True
