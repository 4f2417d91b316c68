"""The first network of a new cloud."""

from __future__ import annotations

from uuid import UUID, uuid5

from msgspec import Struct

from kilonova.db.database import Tx
from kilonova.db.queries.networks import NETWORKS, SUBNETS, NetworkRow, SubnetRow
from kilonova.network import addresses
from kilonova.network.service import EmbeddedNetwork

CIDR = "10.11.0.0/20"
"""Room for some 4,000 servers."""
_FIRST = UUID("2a9ad0b2-52a3-5ac2-8d3e-6b1d8ab5f3a1")


class _First(Struct, frozen=True, kw_only=True):
    project_id: str
    name: str
    cidr: str
    now: int


async def _make(tx: Tx, args: _First) -> str:
    network_id = str(uuid5(_FIRST, f"{args.project_id}/{args.name}"))
    subnet_id = str(uuid5(_FIRST, f"{args.project_id}/{args.name}/subnet"))
    network = NetworkRow(
        network_id, args.project_id, args.name, shared=1, is_default=1, subnets=addresses.encoded([subnet_id]),
        created_at=args.now, updated_at=args.now,
    )  # fmt: skip
    if await NETWORKS.insert(tx, network):
        net = addresses.network(args.cidr)
        gateway = addresses.default_gateway(net)
        subnet = SubnetRow(
            subnet_id, network_id, args.project_id, f"{args.name}-subnet", "", net.version, args.cidr, gateway,
            pools=addresses.encoded(addresses.default_pools(net, gateway)), created_at=args.now, updated_at=args.now,
        )  # fmt: skip
        await SUBNETS.insert(tx, subnet)
    return network_id


async def bootstrap_network(
    service: EmbeddedNetwork, project_id: str, name: str = "private", cidr: str = CIDR
) -> str:
    """Make the shared network `name` of an admin project once; its id. Call it at the first start only:
    a network that was deleted would come back.
    """
    args = _First(project_id=project_id, name=name, cidr=cidr, now=service.clock())
    return await service.database.write(_make, args)
