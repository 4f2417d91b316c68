"""An API process: the HTTP faces over shared databases. Any number of them may run.

Works by the database; the queue only carries wakes, and looks at hosts (a console's log) through a conductor.
"""

from __future__ import annotations

import asyncio
import socket

import msgspec

from kilonova.api.face import ComputeFace
from kilonova.api.services import ApiServices
from kilonova.bus.api import Bus, BusError
from kilonova.cli.compose.connect import folder_of, open_queue
from kilonova.cli.compose.control import Background
from kilonova.cli.compose.faces import Mounts, allowed_hosts, api_settings, observe, translate
from kilonova.cli.compose.neighbours import Neighbours, open_neighbours
from kilonova.cli.compose.server import HttpServer
from kilonova.cli.compose.stores import open_all
from kilonova.cli.compose.wakes import Wakes
from kilonova.cli.compose.watch import Watch
from kilonova.conductor.beats import BeatReader
from kilonova.conductor.service import Look
from kilonova.config.settings import Settings
from kilonova.db.feed import ChangeFeed
from kilonova.db.open import Databases
from kilonova.http.app import HttpApp
from kilonova.http.elsewhere import ElsewhereFace
from kilonova.http.landing import LandingFace, Service
from kilonova.placement.face import PlacementFace
from kilonova.policy.enforcer import Enforcer
from kilonova.pools import Pools
from kilonova.watchdog import Watchdog

_LOOK_S = 20.0
_encode = msgspec.json.Encoder().encode
POLICY = "policy.yaml"
_TYPES = {"/volume": "block-storage"}


class ApiProcess:
    """`kilonova api`. Takes over `sock`."""

    def __init__(self, settings: Settings, name: str, sock: socket.socket) -> None:
        self.settings, self.name, self._sock = settings, name, sock
        self.bus: Bus = open_queue(settings, name, "api")
        self.databases: Databases | None = None
        self._neighbours: Neighbours | None = None
        self._wakes: Wakes | None = None
        self._server: HttpServer | None = None
        self._pools = Pools()
        self._background = Background()
        self._watchdog = Watchdog(settings.watchdog.threshold_ms / 1000)

    async def start(self) -> str:
        self.databases = databases = await open_all(self.settings)
        self._neighbours = around = await open_neighbours(
            self.settings, databases, self._pools, folder=folder_of(self.settings)
        )
        if around.who.embedded is not None:
            self._background.run(around.who.embedded.run(), "identity")
        if around.elsewhere:
            self._background.run(Watch(around).run(), "neighbours")
        feed = ChangeFeed(databases.all())
        self._wakes = Wakes(self.bus, databases.all(), feed.wake)
        await self.bus.start()
        await feed.start()
        self._background.run(feed.run(), "change feed")
        beats = BeatReader(databases.global_, down_after_s=float(self.settings.default.service_down_time))
        await beats.poll()
        self._background.run(beats.run(), "beats of services")
        app = await self._app(databases, around, feed, beats)
        self._server = HttpServer(
            app, self._sock, tls_cert=self.settings.kilonova.tls_cert, tls_key=self.settings.kilonova.tls_key
        )
        await self._server.start()
        if self.settings.watchdog.enabled:
            await self._watchdog.__aenter__()
        host, port = self._sock.getsockname()[:2]
        return f"{self.name} answers on {host} port {port}"

    async def _app(self, databases: Databases, around: Neighbours, feed: ChangeFeed, beats: BeatReader) -> HttpApp:
        settings, folder, who = self.settings, folder_of(self.settings), around.who
        services = ApiServices(
            databases=databases, images=around.images, networks=around.networks, identity=who.validator,
            policy=Enforcer.from_files([folder / POLICY, *settings.oslo_policy.policy_dirs]), wake=self.bus.wake,
            settings=api_settings(settings, auth_uri=who.auth_uri), call_host=self._call_host, host_up=beats.is_up,
            feed=feed,
        )  # fmt: skip
        mounts: Mounts = {
            "/compute": ComputeFace(services),
            "/placement": PlacementFace(databases.global_, who.validator, who.auth_uri),
            **around.faces(),
        }
        here = [path for path, face in mounts.items() if not isinstance(face, ElsewhereFace)]
        mounts[""] = LandingFace(tuple(Service(_TYPES.get(path, path[1:]), path) for path in here))
        app = HttpApp(
            mounts, allowed_hosts=allowed_hosts(settings, settings.kilonova.host), observe=observe, translate=translate
        )
        services.stopping = app.stopping
        return app

    async def _call_host(self, host: str, method: str, payload: bytes) -> bytes:
        """Ask a host through a conductor: hosts obey nobody else. Raises ConnectionError."""
        asked = _encode(Look(host, method, msgspec.Raw(payload)))
        try:
            return await self.bus.ask(self.name, "host.look", asked, ttl=_LOOK_S)
        except BusError as error:
            raise ConnectionError(f"host {host}: {error}") from None

    async def ended(self) -> None:
        await asyncio.Event().wait()

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop()
        if self._wakes is not None:
            self._wakes.stop()
        await self._background.stop()
        await self.bus.stop()
        if self.settings.watchdog.enabled and self._server is not None:
            await self._watchdog.__aexit__(None, None, None)
        if self._neighbours is not None:
            await self._neighbours.close()
        self._pools.close(0.2)
        if self.databases is not None:
            await self.databases.close()
