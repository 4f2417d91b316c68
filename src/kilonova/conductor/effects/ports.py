"""A server's ports where the embedded network lives in the operation's own database: no call, the same commit.

Elsewhere (Neutron, or databases apart) the same steps are calls to the port `network`; see `Op.call`.
"""

from __future__ import annotations

from kilonova.conductor.errors import Refused
from kilonova.conductor.story import Context, effect
from kilonova.db.database import Tx
from kilonova.db.errors import Busy
from kilonova.db.queries import server_state
from kilonova.model.operation import BuildInputs
from kilonova.model.server import Address
from kilonova.network import binding
from kilonova.network.allocation import Hints, LayoutChanged
from kilonova.network.port import NetworkError, PortRequest, PortsOf

_hints: Hints = {}


def refused(error: NetworkError) -> Refused:
    """A network's refusal as a step's."""
    return Refused(str(error), "no_addresses" if "address" in str(error) else "network")


@effect("network.ensure_ports", PortRequest, tuple[Address, ...])
async def ensure_ports(tx: Tx, args: PortRequest, context: Context) -> tuple[Address, ...]:
    """Make (or find) and bind a server's ports, all or none."""
    try:
        return await binding.bind(tx, binding.Binding(request=args, hints=_hints, now=context.now))
    except NetworkError as error:
        raise refused(error) from None
    except LayoutChanged:
        raise Busy("the network's subnets are being changed") from None


@effect("network.ensure_no_ports", PortsOf)
async def ensure_no_ports(tx: Tx, args: PortsOf, context: Context) -> None:
    """Delete a server's own ports, unbind the user's."""
    try:
        await binding.unbind(tx, binding.Release(server=args.server, keep=frozenset(args.keep), now=context.now))
    except LayoutChanged:
        raise Busy("a port is being changed") from None


async def without_ports(tx: Tx, inputs: BuildInputs, error: str, context: Context) -> None:
    """After an undone build: its addresses were given back (or are owed) and may be another server's soon."""
    await server_state.change(tx, inputs.server, {"addresses": "[]"}, context.now)
