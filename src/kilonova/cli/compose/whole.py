"""The whole cloud in one process: what `kilonova up` runs.

The lock on DIR proves that it is alone, so it takes over at once whatever an earlier life left in the
middle. HTTP answers as soon as the databases are open; hosts and guests join when their hypervisor does.
"""

from __future__ import annotations

import asyncio
import gc
import socket
import sys
import time
from collections.abc import Callable

from kilonova.api.face import ComputeFace
from kilonova.api.services import ApiServices
from kilonova.bus.envelope import identity as bus_identity
from kilonova.bus.memory import MemoryBus, MemoryHub
from kilonova.cli.compose.control import Background, Control
from kilonova.cli.compose.faces import allowed_hosts, api_settings, observe, translate
from kilonova.cli.compose.first import first_start, first_start_with_keystone
from kilonova.cli.compose.hosts import Hosts, sim_names
from kilonova.cli.compose.neighbours import Neighbours, open_neighbours
from kilonova.cli.compose.server import HttpServer
from kilonova.cli.compose.watch import Watch
from kilonova.cli.compose.whole_plan import Plan
from kilonova.config.settings import Settings
from kilonova.db.open import Databases, one_file, open_databases
from kilonova.http.app import HttpApp
from kilonova.http.elsewhere import ElsewhereFace
from kilonova.http.landing import LandingFace, Service
from kilonova.image.port import ImagePort
from kilonova.log import get_logger
from kilonova.placement.face import PlacementFace
from kilonova.policy.enforcer import Enforcer
from kilonova.pools import Pools
from kilonova.watchdog import Watchdog

log = get_logger(__name__)
POLICY = "policy.yaml"
_ROTATE_S = 24 * 3600.0
_LOOK_S = 3.0
SERVICES = (
    Service("compute", "/compute"), Service("identity", "/identity"), Service("image", "/image"),
    Service("network", "/network"), Service("block-storage", "/volume"), Service("placement", "/placement"),
)  # fmt: skip


class Cloud:
    """Everything, from open databases to an answering port."""

    def __init__(self, plan: Plan, settings: Settings, sock: socket.socket) -> None:
        self.plan, self.settings, self._sock = plan, settings, sock
        self.databases: Databases
        self.around: Neighbours
        self.watch: Watch
        self.control: Control
        self.hosts: Hosts
        self.app: HttpApp
        self._server: HttpServer
        self._pools = Pools()
        self._background = Background()
        self.watchdog = Watchdog(settings.watchdog.threshold_ms / 1000)

    async def start(self) -> None:
        """Until this returns nothing answers; after it everything does but, for a moment, the hosts."""
        plan, settings = self.plan, self.settings
        sys.setswitchinterval(0.001)
        (plan.folder / "keys").mkdir(mode=0o700, exist_ok=True)
        self.databases = await open_databases(one_file(plan.folder))
        db = self.databases.global_
        around = self.around = await open_neighbours(
            settings, self.databases, self._pools, folder=plan.folder, keys=plan.folder / "keys", base_url=plan.url,
            rotate_s=_ROTATE_S,
        )  # fmt: skip
        who = around.who
        if who.embedded is not None:
            self._background.run(who.embedded.run(), "identity")
        self.watch = Watch(around)
        if around.elsewhere:
            self._background.run(self.watch.run(), "neighbours")
        hub = MemoryHub()
        self.control = Control(
            self.databases, MemoryBus(hub, bus_identity("conductor", "conductor")), around.networks, settings,
            name=plan.host_name, alone=True,
        )  # fmt: skip
        api_bus = MemoryBus(hub, bus_identity("api", "api"))
        await self.control.start()
        await api_bus.start()

        async def call_host(host: str, method: str, payload: bytes) -> bytes:
            return await self.control.conductor.look(host, method, payload)

        services = ApiServices(
            databases=self.databases, images=around.images, networks=around.networks, identity=who.validator,
            policy=Enforcer.from_files([plan.folder / POLICY, *settings.oslo_policy.policy_dirs]),
            wake=self.control.wake, call_host=call_host, host_up=self.control.host_up, feed=self.control.feed,
            settings=api_settings(settings, force_config_drive=True, auth_uri=who.auth_uri),
        )  # fmt: skip
        faces = around.faces()
        shown = tuple(each for each in SERVICES if not isinstance(faces.get(each.path), ElsewhereFace))
        self.app = HttpApp(
            {
                "/compute": ComputeFace(services),
                "/placement": PlacementFace(db, who.validator, who.auth_uri),
                **faces,
                "": LandingFace(shown),
            },
            allowed_hosts=allowed_hosts(settings, plan.host), observe=observe, translate=translate,
        )  # fmt: skip
        services.stopping = self.app.stopping
        if who.embedded is not None:
            await first_start(plan, who.embedded, self.databases, around.own_images, around.own_networks)
        else:
            self._background.run(first_start_with_keystone(plan, around, self.watch, self.databases), "first start")
        self.hosts = self._make_hosts(hub, around.images)
        self._background.run(self._start_hosts(), "hosts")
        self._server = HttpServer(self.app, self._sock, tls_cert=plan.tls_cert, tls_key=plan.tls_key)
        await self._server.start()
        if settings.watchdog.enabled:
            await self.watchdog.__aenter__()
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)

    def _make_hosts(self, hub: MemoryHub, images: ImagePort) -> Hosts:
        plan = self.plan
        names = sim_names(plan.sim_hosts) if plan.driver == "sim" else (plan.host_name,)
        # One pattern, not ten thousand names: it is compared with every host of every report.
        bus = MemoryBus(hub, bus_identity("compute", "host", ("sim-*",) if plan.driver == "sim" else names))
        return Hosts(bus, "compute", plan.driver, plan.folder, names, images, dict(plan.driver_options))

    async def _start_hosts(self) -> None:
        """A hypervisor that is away is waited for; the API answers meanwhile."""
        delay = 1.0
        while True:
            try:
                await self.hosts.start()
                return
            except Exception as error:
                log.warning("the hypervisor cannot be used yet: %s", error, exc_info=True)
                await asyncio.sleep(delay)
                delay = min(30.0, delay * 2)

    async def hosts_ready(self, seconds: float) -> bool:
        """Whether at least one host can take a guest within `seconds`."""
        deadline = time.monotonic() + seconds
        names = sim_names(self.plan.sim_hosts)[:1] if self.plan.driver == "sim" else (self.plan.host_name,)
        while time.monotonic() < deadline:
            self.control.scheduler.poke()
            if all(self.control.host_up(name, "nova-compute") for name in names):
                return True
            await asyncio.sleep(0.02)
        return False

    async def notes(self) -> list[str]:
        """What whoever started the cloud should know beside that it is up."""
        if not self.around.elsewhere:
            return []
        await self.watch.looked(_LOOK_S)
        real = self.around.who.real
        told = [f"Accounts are those of the Keystone at {real.session.url}."] if real is not None else []
        for name, why in self.watch.away.items():
            told.append(f"{name} cannot be used now ({why}): what needs it answers 503 until it can.")
        return told

    async def stop(self) -> None:
        """End in order; guests keep running."""
        await self._server.stop()
        await self._background.stop()
        await self.hosts.stop()
        await self.control.stop()
        if self.settings.watchdog.enabled:
            await self.watchdog.__aexit__(None, None, None)
        await self.around.close()
        self._pools.close()
        await self.databases.close()


async def run(plan: Plan, settings: Settings, sock: socket.socket, ready: Callable[[Cloud, list[str]], None]) -> None:
    """Run the cloud until SIGINT or SIGTERM; `ready(cloud, notes)` is called once it answers and a host is up."""
    import signal

    loop = asyncio.get_running_loop()
    asked = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) is signal.SIG_DFL:
            loop.add_signal_handler(number, asked.set)
    cloud = Cloud(plan, settings, sock)
    await cloud.start()
    wait = asyncio.create_task(asked.wait())
    up = asyncio.create_task(cloud.hosts_ready(60.0))
    await asyncio.wait((wait, up), return_when=asyncio.FIRST_COMPLETED)
    if up.done():
        ready(cloud, await cloud.notes())
    else:
        up.cancel()
    await wait
    await cloud.stop()
