"""The steps' way to the network service."""

from __future__ import annotations

import msgspec

from kilonova.conductor.effects.ports import refused
from kilonova.conductor.errors import Refused, Transient
from kilonova.conductor.ports import CallContext
from kilonova.network.port import NetworkError, NetworkPort, NetworkUnavailable, PortRequest, PortsOf

_encode = msgspec.json.Encoder().encode


class NetworkSteps:
    """``network``: `ensure_ports`, `ensure_no_ports`."""

    def __init__(self, network: NetworkPort) -> None:
        self._network = network

    async def perform(self, target: str, method: str, args: bytes, call: CallContext) -> bytes:
        try:
            if method == "ensure_ports":
                request = msgspec.json.decode(args, type=PortRequest)
                return _encode(await self._network.ensure_ports(request))
            if method == "ensure_no_ports":
                ports = msgspec.json.decode(args, type=PortsOf)
                await self._network.ensure_no_ports(ports.server, ports.keep)
                return b"null"
        except NetworkError as error:
            raise refused(error) from None
        except NetworkUnavailable as error:
            raise Transient("The network service is away.", "network", str(error)) from None
        raise Refused(f"the network port has no {method}", "internal")
