"""What is really there, as hosts and the network service show it when they are asked directly."""

from __future__ import annotations

from msgspec import Struct


class SeenGuest(Struct, frozen=True, kw_only=True):
    host: str
    uuid: str
    power_state: int


class World(Struct, frozen=True, kw_only=True):
    guests: tuple[SeenGuest, ...] = ()
    disks: tuple[tuple[str, str], ...] = ()
    """(host, server) of every disk."""
    taps: tuple[tuple[str, str, str], ...] = ()
    """(host, server, port) of every plugged interface."""
    ports: tuple[tuple[str, str, tuple[str, ...]], ...] | None = None
    """(port, server, addresses as ``network/ip``) of every port that a server owns; None = not looked at."""
    has_disks: bool = True
    """Whether disks and taps were looked at."""
