"""What the Compute API works with; made by `cli`, handed to `ComputeFace`.

Ports and callables only: the API knows no driver, no bus and no scheduler.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol
from uuid import uuid4

import msgspec
from msgspec import Struct

from kilonova.db.database import Database
from kilonova.http.auth import TokenValidator
from kilonova.image.port import ImagePort
from kilonova.network.port import NetworkPort
from kilonova.policy.enforcer import Enforcer

if TYPE_CHECKING:
    from kilonova.db.feed import ChangeFeed


class DatabaseSet(Protocol):
    """The databases of a cloud: one global, cells by name (``cell0`` holds what found no host)."""

    @property
    def global_(self) -> Database: ...

    @property
    def cells(self) -> Mapping[str, Database]: ...


_DEFAULT_QUOTAS = {
    "instances": 10, "cores": 20, "ram": 51200, "metadata_items": 128, "injected_files": 5,
    "injected_file_content_bytes": 10240, "injected_file_path_bytes": 255, "key_pairs": 100,
    "server_groups": 10, "server_group_members": 10,
}  # fmt: skip


class ApiSettings(Struct, frozen=True, kw_only=True):
    """What an operator may set about the API."""

    quotas: dict[str, int] = msgspec.field(default_factory=_DEFAULT_QUOTAS.copy)
    """Limits where nobody set another; -1 is unlimited."""
    max_limit: int = 1000
    """Most items on a page."""
    default_zone: str = "nova"
    """The zone of hosts in no aggregate with a zone."""
    schedule_zone: str | None = None
    """The zone of requests that name none; None = any."""
    password_length: int = 12
    show_password: bool = True
    """Whether answers carry the admin password ([api] enable_instance_password)."""
    reboot_graceful_s: int = 60
    stop_graceful_s: int = 60
    auth_uri: str = ""
    """The identity service's URL for 401 answers; empty = beside this face."""
    vnc_enabled: bool = False
    force_config_drive: bool = False
    """Every server gets a config drive, asked for or not ([DEFAULT] force_config_drive)."""


def _now() -> int:
    return time.time_ns() // 1000


def _new_id() -> str:
    return str(uuid4())


async def _no_host(host: str, method: str, payload: bytes) -> bytes:
    raise ConnectionError(f"host {host} cannot be asked here")


@dataclass(slots=True, kw_only=True)
class ApiServices:
    """The seam between the API and everything else."""

    databases: DatabaseSet
    images: ImagePort
    networks: NetworkPort
    identity: TokenValidator
    policy: Enforcer
    wake: Callable[[str, str], None] = lambda topic, subject: None
    """(topic, subject): tell whoever continues; may be lost."""
    settings: ApiSettings = field(default_factory=ApiSettings)
    call_host: Callable[[str, str, bytes], Awaitable[bytes]] = _no_host
    """(host, method, args as JSON) -> output as JSON. Raises ConnectionError when the host cannot be reached."""
    host_up: Callable[[str, str], bool] = lambda host, binary: True
    """(host, binary) -> whether its beats arrive."""
    seal: Callable[[str], str | None] = lambda secret: None
    """Seals the admin password for the journal; None: it is not kept."""
    feed: ChangeFeed | None = None
    """Changes for the event stream; None: 501."""
    clock: Callable[[], int] = _now
    """Microseconds UTC."""
    new_id: Callable[[], str] = _new_id
    random: Callable[[int], bytes] = secrets.token_bytes
    stopping: Any = None
    """`HttpApp.stopping`; streams end with it."""
    host_flags: tuple[int, dict[str, tuple[int, int]]] | None = None
    """(when read, host -> (disabled, forced down)): the cache of `api.host_status`."""
