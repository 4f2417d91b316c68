"""From settings to what a process of its own needs: its folder, its name, its place on the queue.

Every refusal is one line that says which file and line to change. Nothing here starts anything.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlencode

from kilonova.bus.api import Bus
from kilonova.cli import place
from kilonova.cli.errors import CliError
from kilonova.config.settings import Settings, shown


def folder_of(settings: Settings) -> Path:
    """The cloud's directory on this machine: [kilonova] dir, [DEFAULT] state_path, or where `up` would put it."""
    chosen = settings.kilonova.dir or settings.default.state_path
    return Path(chosen).absolute() if chosen else place.default_dir()


def where(settings: Settings, section: str, option: str) -> str:
    """``file:line: [section] option`` as far as it is known, for a refusal."""
    source = settings.source(section, option)
    name = f"[{shown(section.lower())}] {option}"
    return name if source == "default" else f"{source}: {name}"


def process_name(settings: Settings, service: str, given: str | None = None) -> str:
    """What this process is called on the queue: told, configured, or made of the service and this host."""
    name = given or settings.kilonova.name
    if name:
        return name
    return settings.default.host if service == "compute" else f"{service}.{settings.default.host}"


def queue_keys(settings: Settings) -> Path:
    """The folder with this machine's keys and the enrolled records."""
    chosen = settings.kilonova.queue_keys
    return Path(chosen).absolute() if chosen else folder_of(settings) / "queue-keys"


def open_queue(settings: Settings, name: str, role: str, speaks_for: tuple[str, ...] = ()) -> Bus:
    """The bus of this process, not started. Raises CliError."""
    from kilonova.bus.envelope import identity
    from kilonova.bus.factory import TransportError, open_bus

    url = settings.default.transport_url
    if url.kind != "zmq":
        raise CliError(
            f"{where(settings, 'DEFAULT', 'transport_url')}: services of their own need the queue, "
            f"zmq://HOST:PORT of every conductor, not {url.kind}://"
        )
    hosts = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in url.hosts)
    query = f"?{urlencode(url.options)}" if url.options else ""
    try:
        return open_bus(f"zmq://{hosts}{query}", identity(name, role, speaks_for), queue_keys(settings))
    except TransportError as error:
        raise CliError(
            f"{where(settings, 'DEFAULT', 'transport_url')}: {error}; `kilonova manage enroll` makes keys"
        ) from None
