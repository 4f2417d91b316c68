"""What kilonova's services ask of a network service; filled by the embedded one and by a real Neutron.

Written for the weaker of the two: a neighbour has no fences, so what is made is found again by its tag
(device id and the port ids the caller chose), before it is made and when it is swept.
"""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

from kilonova.model.credentials import Credentials
from kilonova.model.operation import RequestedNetwork
from kilonova.model.server import Address


class NetworkError(Exception):
    """A definite refusal; the message is for the user."""


class NetworkNotFound(NetworkError):
    """No such network or port, or not visible to the caller."""


class NetworkAmbiguous(NetworkError):
    """Several networks are possible and none was named (409)."""


class NetworkConflict(NetworkError):
    """The port or address is in use, or there are no more addresses."""


class NetworkUnavailable(Exception):
    """The network service is away: try again."""


class PortRequest(Struct, frozen=True, kw_only=True):
    """Ports to make for a server; `port_ids` are chosen by the caller so that an undo needs no answer."""

    server: str
    project_id: str
    host: str
    networks: tuple[RequestedNetwork, ...]
    port_ids: tuple[str, ...]
    """One for each of `networks`; ignored where the user brought a port."""
    security_groups: tuple[str, ...] = ()
    hostname: str = ""


class PortsOf(Struct, frozen=True, kw_only=True):
    """A server's ports, for their removal."""

    server: str
    keep: tuple[str, ...] = ()
    """The user's own ports: unbound, not deleted."""


class NetworkPort(Protocol):
    async def resolve(
        self, creds: Credentials, requested: tuple[RequestedNetwork, ...] | None, count: int = 1
    ) -> tuple[RequestedNetwork, ...]:
        """Check what a user asked for; None = choose as Nova does (the project's only network, shared ones
        included). Raises NetworkNotFound, NetworkAmbiguous, NetworkConflict, NetworkUnavailable.
        """

    async def auto_allocate(self, creds: Credentials) -> tuple[RequestedNetwork, ...]:
        """`networks: auto` (2.37): the project's usable network, or raises NetworkError when there is none."""

    async def ensure_ports(self, request: PortRequest) -> tuple[Address, ...]:
        """Make (or find) and bind the ports; repeating it gives the same ones.

        Raises NetworkError, NetworkUnavailable.
        """

    async def ensure_no_ports(self, server: str, keep: tuple[str, ...] = ()) -> None:
        """Delete the ports made for `server`, unbind those the user brought; "not there" is success."""

    async def held(self, after: str = "") -> list[tuple[str, str]]:
        """The next (port, server) pairs of ports made for servers, by port id after `after`; empty at the end.

        For the sweep that finds what a late answer left behind. Raises NetworkUnavailable.
        """

    async def names(self, creds: Credentials, network_ids: tuple[str, ...]) -> dict[str, str]:
        """Network id -> name, for those visible."""
