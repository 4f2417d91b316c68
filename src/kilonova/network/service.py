"""The embedded network service without its wire: `NetworkPort` over the global database.

Networks, ports and addresses are records; how a guest is plugged is its host's business (kind ``user``: QEMU's
user-mode network, behind which addresses are names only).
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from kilonova.db.database import Database, Tx
from kilonova.db.errors import Busy
from kilonova.db.queries import networks as queries
from kilonova.db.queries.networks import NETWORKS, PORTS, NetworkRow, PortRow
from kilonova.db.statement import Row
from kilonova.model.credentials import Credentials
from kilonova.model.operation import RequestedNetwork
from kilonova.model.server import Address
from kilonova.network import addresses, allocation
from kilonova.network.allocation import Hints, LayoutChanged
from kilonova.network.binding import Binding, Release, bind, unbind
from kilonova.network.port import (
    NetworkAmbiguous,
    NetworkConflict,
    NetworkError,
    NetworkNotFound,
    PortRequest,
)

A = TypeVar("A")
T = TypeVar("T")
_TRIES = 8


def _now() -> int:
    return time.time_ns() // 1000


class EmbeddedNetwork:
    """`NetworkPort`; `NetworkFace` puts the same records on the wire."""

    def __init__(self, database: Database, clock: Callable[[], int] = _now) -> None:
        self.database, self.clock = database, clock
        self.hints: Hints = {}

    def __repr__(self) -> str:
        return f"EmbeddedNetwork({self.database!r})"

    async def write(self, f: Callable[[Tx, A], Awaitable[T]], args: A) -> T:
        """`Database.write`, started over when what it read changed under it."""
        for _ in range(_TRIES):
            try:
                return await self.database.write(f, args)
            except LayoutChanged:
                continue
        raise Busy("a network changes again and again")

    # NetworkPort

    async def resolve(
        self, creds: Credentials, requested: tuple[RequestedNetwork, ...] | None, count: int = 1
    ) -> tuple[RequestedNetwork, ...]:
        """See `NetworkPort.resolve`."""
        if requested is None:
            found = await self._usable(creds)
            if len(found) > 1:
                raise NetworkAmbiguous("Multiple possible networks found, use a Network ID to be more specific.")
            return tuple(RequestedNetwork(network_id=each.id) for each in found)
        return tuple([await self._checked(creds, each) for each in requested])

    async def auto_allocate(self, creds: Credentials) -> tuple[RequestedNetwork, ...]:
        found = await self._usable(creds)
        if not found:
            raise NetworkError("There is no network that could be given to the server automatically.")
        if len(found) > 1:
            raise NetworkAmbiguous("Multiple possible networks found, use a Network ID to be more specific.")
        return (RequestedNetwork(network_id=found[0].id),)

    async def ensure_ports(self, request: PortRequest) -> tuple[Address, ...]:
        """See `NetworkPort.ensure_ports`: one transaction, all ports or none."""
        if not request.networks:
            return ()
        return await self.write(bind, Binding(request=request, hints=self.hints, now=self.clock()))

    async def ensure_no_ports(self, server: str, keep: tuple[str, ...] = ()) -> None:
        await self.write(unbind, Release(server=server, keep=frozenset(keep), now=self.clock()))

    async def names(self, creds: Credentials, network_ids: tuple[str, ...]) -> dict[str, str]:
        found = {}
        for network_id in dict.fromkeys(network_ids):
            row = await self._network(network_id)
            if row is not None and sees(row, creds):
                found[network_id] = row.name
        return found

    # for audits

    async def held(self, after: str = "", limit: int = 1000) -> list[tuple[str, str]]:
        """See `NetworkPort.held`."""
        return await self.database.scan(queries.HELD, {"after": after, "limit": limit}, _pairs)

    async def _network(self, network_id: str) -> NetworkRow | None:
        row = await self.database.fetch_one(NETWORKS.get, {"id": network_id})
        return None if row is None else NETWORKS.row(row)

    async def _usable(self, creds: Credentials) -> list[NetworkRow]:
        rows = await self.database.fetch(queries.USABLE, {"me": creds.project_id or ""})
        found = [NETWORKS.row(row) for row in rows]
        return [each for each in found if not each.external or each.shared or creds.is_admin]

    async def _checked(self, creds: Credentials, wanted: RequestedNetwork) -> RequestedNetwork:
        if wanted.port_id is not None:
            port = await self._port(creds, wanted.port_id)
            if port.device_id:
                raise NetworkConflict(f"Port {port.id} is still in use.")
            if port.ips == "[]":
                raise NetworkError(f"Port {port.id} requires a FixedIP in order to be used.")
            return RequestedNetwork(network_id=port.network_id, port_id=port.id, tag=wanted.tag)
        row = await self._network(wanted.network_id)
        if row is None or not sees(row, creds):
            raise NetworkNotFound(f"Network {wanted.network_id} could not be found.")
        if row.external and not row.shared and not creds.is_admin:
            raise NetworkError(f"It is not allowed to create an interface on external network {row.id}.")
        if row.subnets == "[]":
            raise NetworkError(f"Network {row.id} requires a subnet in order to boot instances on.")
        if wanted.fixed_ip is not None:
            await self._free(row, wanted.fixed_ip)
        return wanted

    async def _port(self, creds: Credentials, port_id: str) -> PortRow:
        row = await self.database.fetch_one(PORTS.get, {"id": port_id})
        port = None if row is None else PORTS.row(row)
        if port is None or not (creds.is_admin or port.project_id == creds.project_id):
            raise NetworkNotFound(f"Port {port_id} could not be found.")
        return port

    async def _free(self, network: NetworkRow, address: str) -> None:
        rows = await self.database.fetch(queries.PLAN, {"network": network.id})
        subnets = tuple(allocation.Subnet(*row[3:]) for row in rows if row[3] is not None)
        found = allocation.Plan(network.id, network.name, network.mtu, network.layout, subnets)
        subnet = allocation.subnet_for(found, address)
        key = addresses.key(addresses.number(address), subnet.version)
        if await self.database.fetch_one(queries.ADDRESS_USED, {"network": network.id, "address": key}):
            raise NetworkError(f"Fixed IP address {address} is already in use on network {network.id}.")


def sees(row: NetworkRow, creds: Credentials) -> bool:
    """Whether a network exists for the caller."""
    return bool(row.shared or row.external or creds.is_admin or row.project_id == creds.project_id)


def _pairs(rows: list[Row]) -> list[tuple[str, str]]:
    return [(row[0], row[1]) for row in rows]
