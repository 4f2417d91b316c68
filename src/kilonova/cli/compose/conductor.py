"""A conductor process: it carries operations out, and holds a scheduler of its own.

Whoever is taken for dead by the others (its beats did not come through for 3 s) has lost its operations for good; it
begins anew as another incarnation, in the same process.
"""

from __future__ import annotations

import asyncio

from kilonova.cli.compose.connect import open_queue
from kilonova.cli.compose.control import Background, Control
from kilonova.cli.compose.neighbours import network_port, real_neutron
from kilonova.cli.compose.stores import open_all
from kilonova.cli.compose.who import Sessions
from kilonova.config.settings import Settings
from kilonova.db.changes import keep_trimmed
from kilonova.db.errors import DatabaseError
from kilonova.db.open import Databases
from kilonova.db.postgres import PostgresDatabase
from kilonova.log import get_logger
from kilonova.watchdog import Watchdog

log = get_logger(__name__)
_LOOK_S = 0.5
_STALLED_S = 2.0


class ConductorProcess:
    """`kilonova conductor`."""

    def __init__(self, settings: Settings, name: str) -> None:
        self.settings, self.name = settings, name
        self._bus = open_queue(settings, name, "conductor")
        self._sessions = Sessions(settings)
        self._neutron = real_neutron(settings, self._sessions, None)
        self.databases: Databases | None = None
        self.control: Control | None = None
        self._background = Background()
        self._watchdog = Watchdog(settings.watchdog.threshold_ms / 1000)
        self._watching = False

    async def start(self) -> str:
        self.databases = await open_all(self.settings)
        self.control = self._make(self.databases)
        await self.control.start()
        self._background.run(_end_stalled(self.databases), "stalled sessions")
        self._background.run(keep_trimmed(self.databases.all()), "trimming of changes")
        if self.settings.watchdog.enabled:
            await self._watchdog.__aenter__()
            self._watching = True
        names = ", ".join(database.name for database in self.databases.all())
        return f"{self.name} works on {names}"

    def _make(self, databases: Databases) -> Control:
        networks, _ = network_port(databases, self._neutron)
        return Control(databases, self._bus, networks, self.settings, name=self.name, alone=False)

    async def ended(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            assert self.control is not None and self.databases is not None
            if any(owner.ended for owner in self.control.conductor.owners):
                log.error("%s was taken for dead; it begins anew", self.name)
                await self.control.stop()
                self._bus = open_queue(self.settings, self.name, "conductor")
                self.control = self._make(self.databases)
                await self.control.start()

    async def stop(self) -> None:
        await self._background.stop()
        if self.control is not None:
            await self.control.stop()
        if self._watching:
            await self._watchdog.__aexit__(None, None, None)
        if self._neutron is not None:
            await self._neutron.close()
        await self._sessions.close()
        if self.databases is not None:
            await self.databases.close()


async def _end_stalled(databases: Databases) -> None:
    """Let no process that hangs in the middle of a transaction hold up the others, until cancelled."""
    while True:
        for database in databases.all():
            if isinstance(database, PostgresDatabase):
                try:
                    await database.end_stalled()
                except DatabaseError as error:
                    log.warning("stalled sessions of %s stay: %s", database.name, error)
        await asyncio.sleep(_STALLED_S)
