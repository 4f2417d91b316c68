"""A compute process: the hosts of this machine, without any database of the cloud.

It knows the queue, its own folder, and where images are fetched with the service's account.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from kilonova.cli import running
from kilonova.cli.compose.connect import folder_of, open_queue, where
from kilonova.cli.compose.hosts import Hosts, PortSource, sim_names
from kilonova.cli.compose.neighbours import glance_of_hosts
from kilonova.cli.compose.who import Sessions
from kilonova.cli.errors import CliError
from kilonova.compute.virt.driver import DriverError, Refused
from kilonova.config.settings import Settings
from kilonova.http.neighbour import Neighbour
from kilonova.log import get_logger

log = get_logger(__name__)


def refuse_databases(settings: Settings) -> None:
    """A host has no database of the cloud, and must not hold the way into one. Raises CliError."""
    for section in ("database", "api_database", "cell0_database"):
        if getattr(settings, section).connection is not None:
            place = where(settings, section, "connection")
            raise CliError(f"{place}: a compute process takes no database; give it a file without this setting")


class RemoteImages(PortSource):
    """`ImageSource` over HTTP: the endpoint is configured, or found in the catalog when it is first needed."""

    def __init__(self, glance: Neighbour, sessions: Sessions) -> None:
        from kilonova.image.client import GlanceClient

        super().__init__(GlanceClient(glance))
        self._glance, self._sessions = glance, sessions

    async def close(self) -> None:
        await self._glance.close()
        await self._sessions.close()


class NoImages:
    """Where no account is configured: everything but fetching works."""

    def open(self, image_id: str) -> AsyncIterator[bytes]:
        raise Refused("image_gone", "this host has no account to fetch images with: set [service_user]")


class ComputeProcess:
    """`kilonova compute`."""

    def __init__(self, settings: Settings, name: str) -> None:
        refuse_databases(settings)
        self.settings, self.name = settings, name
        kind = settings.kilonova.driver
        if kind == "auto":
            kind = "libvirt"
        self.kind = kind
        names = sim_names(settings.kilonova.sim_hosts, settings.kilonova.sim_prefix) if kind == "sim" else (name,)
        self.names = names
        self._images = remote_images(settings)
        self.folder = folder_of(settings)
        self.folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        self._options = _driver_options(settings, kind, self.folder)
        self._lock = contextlib.ExitStack()
        self.hosts = self._make()

    def _make(self) -> Hosts:
        bus = open_queue(self.settings, self.name, "host", self.names)
        return Hosts(bus, self.name, self.kind, self.folder, self.names, None, self._options, source=self._images)

    async def start(self) -> str:
        # Before the queue hears of us: a second process of this name would push the first aside.
        try:
            self._lock.enter_context(running.hold(self.folder))
        except CliError:
            where = f"{self.folder}; give this one a [kilonova] dir of its own"
            raise CliError(f"another process already works in {where}") from None
        delay = 1.0
        while True:
            try:
                await self.hosts.start()
                break
            except (OSError, DriverError) as error:
                log.warning("the hypervisor cannot be used yet: %s", error)
            with contextlib.suppress(Exception):  # half started: what can be let go is let go
                await self.hosts.stop()
            await asyncio.sleep(delay)
            delay = min(30.0, delay * 2)
            self.hosts = self._make()
        return f"{self.name} is {len(self.names)} {self.kind} host(s), {self.names[0]} first"

    async def ended(self) -> None:
        await asyncio.Event().wait()

    async def stop(self) -> None:
        await self.hosts.stop()
        self._lock.close()
        if isinstance(self._images, RemoteImages):
            await self._images.close()


def remote_images(settings: Settings) -> RemoteImages | NoImages:
    """Where this host gets its images: a real Glance, or the image API of a kilonova elsewhere."""
    sessions = Sessions(settings)
    glance = glance_of_hosts(settings, sessions)
    return NoImages() if glance is None else RemoteImages(glance, sessions)


def _driver_options(settings: Settings, kind: str, folder: Path) -> dict[str, Any]:
    if kind != "libvirt":
        return {}
    from kilonova.cli import libvirt_binding, os_packages

    os_packages.ensure(os_packages.guests())
    libvirt_binding.ensure()
    options: dict[str, Any] = {}
    if settings.libvirt.connection_uri:
        options["uri"] = settings.libvirt.connection_uri
    options["virt_type"] = _virt_type(settings, folder)
    return options


def _virt_type(settings: Settings, folder: Path) -> str:
    """As configured, as seen before on this boot of the host, else plain emulation: a guest decides nothing here."""
    wanted = settings.libvirt.virt_type
    if wanted != "auto":
        return wanted
    from kilonova.compute.virt.libvirt import probe

    kept = probe.read(folder)
    return kept.virt_type if kept is not None else "qemu"
