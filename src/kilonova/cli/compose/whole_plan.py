"""What `up` decides before the cloud starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """All decisions; complete: the cloud asks for nothing more."""

    folder: Path
    host: str
    port: int
    url: str
    driver: str
    """`libvirt` or `sim`."""
    verdict: str = ""
    """How guests run and why, for people."""
    sim_hosts: int = 1
    host_name: str = ""
    """This machine's name as a compute host."""
    driver_options: dict[str, Any] = {}
    guest_image: Path | None = None
    guest_image_format: str = "qcow2"
    guest_min_ram: int = 0
    tls_cert: str | None = None
    tls_key: str | None = None
    cacert: str | None = None
