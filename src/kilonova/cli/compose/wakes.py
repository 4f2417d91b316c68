"""Commits of one process made known to the others: who relays is told that there is something to relay, who
follows the changes is told that there are new ones.

Only wakes: lost ones cost a poll (1 s), never a change. Told at most once a turn of the loop. Not needed where
one process is the whole cloud.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from kilonova.bus.api import Bus
from kilonova.db.database import Database
from kilonova.db.relay import Relay

CHANGE_TOPIC = "change"
"""Wakes: a database's name; its changes have new positions."""
OUTBOX_TOPIC = "outbox"
"""Wakes: a database's name; something in it waits for its position."""


class Wakes:
    """`changed(database)` is called when a database has new changes, whoever made them.

    With `incarnation` this process offers to relay the changes of the databases that need it: run `relays`.
    """

    def __init__(
        self, bus: Bus, databases: Iterable[Database], changed: Callable[[str], None], incarnation: str | None = None
    ) -> None:
        self._bus = bus
        self._due: set[tuple[str, str]] = set()
        self._unwatch: list[Callable[[], None]] = []
        self.relays: list[Relay] = []
        for database in databases:
            relay: Relay | None = None
            if incarnation is not None and database.dialect != "sqlite":
                relay = Relay(database, incarnation, self._teller(CHANGE_TOPIC, database.name))
                self.relays.append(relay)
            topic = CHANGE_TOPIC if database.dialect == "sqlite" else OUTBOX_TOPIC
            self._unwatch.append(database.watch(self._teller(topic, database.name, relay)))
        bus.on_wake(CHANGE_TOPIC, changed)
        if self.relays:
            bus.on_wake(OUTBOX_TOPIC, self._relay)

    def stop(self) -> None:
        """Tell no more."""
        for unwatch in self._unwatch:
            unwatch()
        self._unwatch.clear()

    def _teller(self, topic: str, database: str, relay: Relay | None = None) -> Callable[[], None]:
        def tell() -> None:
            if relay is not None and relay.epoch:
                return  # it watches the database itself
            if (topic, database) not in self._due:
                self._due.add((topic, database))
                asyncio.get_running_loop().call_soon(self._tell, topic, database)

        return tell

    def _tell(self, topic: str, database: str) -> None:
        self._due.discard((topic, database))
        self._bus.wake(topic, database)

    def _relay(self, database: str) -> None:
        for relay in self.relays:
            if relay.db.name == database and relay.epoch:
                relay.wake()
