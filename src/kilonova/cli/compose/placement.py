"""A placement process: Placement's API alone, over the global database."""

from __future__ import annotations

import asyncio
import socket

from kilonova.cli.compose.control import Background
from kilonova.cli.compose.faces import allowed_hosts, observe, translate
from kilonova.cli.compose.server import HttpServer
from kilonova.cli.compose.stores import open_all
from kilonova.cli.compose.who import Who, open_who
from kilonova.config.settings import Settings
from kilonova.db.open import Databases
from kilonova.http.app import HttpApp
from kilonova.http.landing import LandingFace, Service
from kilonova.placement.face import PlacementFace
from kilonova.pools import Pools


class PlacementProcess:
    """`kilonova placement`. Takes over `sock`. It needs no queue: what it commits is found by the readers' poll."""

    def __init__(self, settings: Settings, name: str, sock: socket.socket) -> None:
        self.settings, self.name, self._sock = settings, name, sock
        self.databases: Databases | None = None
        self._who: Who | None = None
        self._server: HttpServer | None = None
        self._pools = Pools()
        self._background = Background()

    async def start(self) -> str:
        self.databases = await open_all(self.settings, cells=False)
        self._who = await open_who(self.settings, self.databases, self._pools)
        if self._who.embedded is not None:
            self._background.run(self._who.embedded.run(), "identity")
        own = self.settings.kilonova
        app = HttpApp(
            {
                "/placement": PlacementFace(
                    self.databases.global_, self._who.validator, self._who.auth_uri
                ),
                "": LandingFace((Service("placement", "/placement"),)),
            },
            allowed_hosts=allowed_hosts(self.settings, own.host), observe=observe, translate=translate,
        )  # fmt: skip
        self._server = HttpServer(app, self._sock, tls_cert=own.tls_cert, tls_key=own.tls_key)
        await self._server.start()
        host, port = self._sock.getsockname()[:2]
        return f"{self.name} answers on {host} port {port}"

    async def ended(self) -> None:
        await asyncio.Event().wait()

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop()
        await self._background.stop()
        if self._who is not None:
            await self._who.close()
        self._pools.close(0.2)
        if self.databases is not None:
            await self.databases.close()
