"""A metadata process: what guests ask about themselves, read from the cells' databases."""

from __future__ import annotations

import asyncio
import ipaddress
import socket

from kilonova.cli.compose.connect import where
from kilonova.cli.compose.faces import observe, translate
from kilonova.cli.compose.server import HttpServer
from kilonova.cli.compose.stores import open_all
from kilonova.cli.errors import CliError
from kilonova.config.settings import Settings
from kilonova.db.open import Databases
from kilonova.db.queries import metadata as sql
from kilonova.db.queries import server_state
from kilonova.http.app import HttpApp
from kilonova.http.errors import HttpError
from kilonova.http.landing import LandingFace
from kilonova.http.message import Request, Response
from kilonova.metadata.face import MetadataFace
from kilonova.model.server import Server
from kilonova.network.addresses import key


class MetadataProcess:
    """`kilonova metadata`. Takes over `sock`. Any Host header: guests use the address itself."""

    def __init__(self, settings: Settings, name: str, sock: socket.socket) -> None:
        self.settings, self.name, self._sock = settings, name, sock
        self.databases: Databases | None = None
        self._server: HttpServer | None = None
        neutron = settings.neutron
        self._secret: str | None = None
        if neutron.service_metadata_proxy:
            self._secret = neutron.metadata_proxy_shared_secret.reveal()
            if not self._secret:
                place = where(settings, "neutron", "service_metadata_proxy")
                raise CliError(f"{place}: needs [neutron] metadata_proxy_shared_secret as well")

    async def start(self) -> str:
        self.databases = await open_all(self.settings)
        face = MetadataFace(
            self.by_id, self.by_address, secret=self._secret, dhcp_domain=self.settings.api.dhcp_domain
        )
        landing = LandingFace(())
        app = HttpApp(
            {"healthcheck": _At(landing, "/healthcheck"), "metrics": _At(landing, "/metrics"), "": face},
            observe=observe, translate=translate,
        )  # fmt: skip
        own = self.settings.kilonova
        self._server = HttpServer(app, self._sock, tls_cert=own.tls_cert, tls_key=own.tls_key)
        await self._server.start()
        host, port = self._sock.getsockname()[:2]
        how = "signed ids" if self._secret else "source addresses"
        return f"{self.name} answers on {host} port {port}, finding servers by {how}"

    async def by_id(self, uuid: str) -> Server | None:
        """The server in whichever cell it is."""
        assert self.databases is not None
        for database in dict.fromkeys(self.databases.cells.values()):
            row = await database.fetch_one(server_state.SELECT, {"uuid": uuid})
            if row is not None:
                return Server(**dict(zip(server_state.COLUMNS, row, strict=True)))
        return None

    async def by_address(self, address: str) -> Server | None:
        """The one server that has this address; None also when networks share it."""
        assert self.databases is not None
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return None
        rows = await self.databases.global_.fetch(sql.SERVERS_OF_ADDRESS, {"address": key(int(found), found.version)})
        return await self.by_id(rows[0][0]) if len(rows) == 1 else None

    async def ended(self) -> None:
        await asyncio.Event().wait()

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop()
        if self.databases is not None:
            await self.databases.close()


class _At:
    """One page of a landing face under its own mount."""

    def __init__(self, landing: LandingFace, path: str) -> None:
        self._landing, self._path, self.name = landing, path, landing.name

    async def handle(self, request: Request, path: str) -> Response:
        return await self._landing.handle(request, self._path)

    def fault(self, request: Request, error: HttpError) -> Response:
        return self._landing.fault(request, error)
