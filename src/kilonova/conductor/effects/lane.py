"""A server's lane, as a delete takes it over (contracts: 1.18)."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from kilonova.conductor.effects.place import guest_spec
from kilonova.conductor.errors import Refused
from kilonova.conductor.story import Context, Undo, effect
from kilonova.db.database import Tx
from kilonova.db.queries import journal, server_state
from kilonova.db.queries.operations import open_operation, supersede_lane
from kilonova.db.statement import Value
from kilonova.model.command import Method, PowerArgs
from kilonova.model.guest import GuestSpec, Nic
from kilonova.model.operation import NewOperation, ServerInputs
from kilonova.model.power import PowerState
from kilonova.model.server import Address

_addresses = msgspec.json.Decoder(tuple[Address, ...])
encode = msgspec.json.Encoder().encode


class LaneArgs(Struct, frozen=True, kw_only=True):
    server: str
    number: int


class Lane(Struct, frozen=True, kw_only=True):
    """What the server had when its lane was closed."""

    hosts: tuple[str, ...] = ()
    """Every host that may hold something of it."""
    ports_kept: tuple[str, ...] = ()
    """The user's own ports: unplugged, not deleted."""


class SpecOf(Struct, frozen=True, kw_only=True):
    """A guest's definition, where it is, and whether it runs as far as is known."""

    host: str
    spec: GuestSpec
    running: bool = True


class UnplaceArgs(Struct, frozen=True, kw_only=True):
    server: str
    request_id: str
    """The request that deleted it."""
    operation: str
    """The id of the delete to open."""


def nics_of(addresses: str) -> tuple[Nic, ...]:
    """A server's interfaces, from its row."""
    return tuple(
        Nic(
            port_id=a.port_id, network_id=a.network_id, mac=a.mac, addresses=tuple(ip for ip, _ in a.ips), mtu=a.mtu,
            kind=a.kind, tag=a.tag,
        )
        for a in _addresses.decode(addresses)
    )  # fmt: skip


@effect("close_lane", LaneArgs, Lane)
async def close_lane(tx: Tx, args: LaneArgs, context: Context) -> Lane:
    """End what a delete superseded and say where the server may have left things."""
    server = await server_state.load(tx, args.server)
    hosts = {server.host} if server is not None and server.host else set()
    for row in await tx.fetch(journal.LANE_STEPS, {"target": args.server, "number": args.number}):
        kind, _, name = row[3].partition(":")
        if kind == "host":
            hosts.add(name)
    await tx.execute(
        journal.END_SUPERSEDED, {"target": args.server, "number": args.number, "now": context.now}
    )
    kept = tuple(a.port_id for a in _addresses.decode(server.addresses) if a.preexisting) if server else ()
    return Lane(hosts=tuple(sorted(hosts)), ports_kept=kept)


@effect("load_guest", LaneArgs, SpecOf)
async def load_guest(tx: Tx, args: LaneArgs, context: Context) -> SpecOf:
    """The guest's definition as the row has it now. Refused when it is on no host."""
    server = await server_state.load(tx, args.server)
    if server is None or not server.host:
        raise Refused("The server is on no host.", "no_host")
    spec = msgspec.structs.replace(guest_spec(server), nics=nics_of(server.addresses))
    return SpecOf(host=server.host, spec=spec, running=server.power_state == PowerState.RUNNING)


def as_before(guest: SpecOf) -> Undo:
    """What brings a guest back to the power it had."""
    method = Method.POWER_ON if guest.running else Method.POWER_OFF
    return Undo(f"host:{guest.host}", method, PowerArgs(spec=guest.spec), "power")


@effect("unplace", UnplaceArgs)
async def unplace(tx: Tx, args: UnplaceArgs, context: Context) -> None:
    """Open the delete of a server that was deleted before it reached its cell."""
    server = await server_state.load(tx, args.server)
    if server is None or server.task_state == "deleting":
        return
    number = server.next_number
    # In a cloud of one database the `schedule` that runs this stands in the very lane.
    await supersede_lane(tx, args.server, number, context.now, spared=context.operation_id)
    fields: dict[str, Value] = {"task_state": "deleting", "next_number": number + 1, "operation_id": args.operation}
    await server_state.change(tx, args.server, fields, context.now)
    await open_operation(
        tx,
        NewOperation(
            id=args.operation, story="delete", target=args.server, number=number,
            inputs=encode(ServerInputs(server=args.server)), request_id=args.request_id,
            user_id=context.user_id, project_id=context.project_id, created_at=context.now,
        ),
    )  # fmt: skip
    context.opened.append(args.operation)
    await tx.execute(
        server_state.START_ACTION,
        {
            "id": args.operation, "server": args.server, "request_id": args.request_id, "action": "delete",
            "user_id": context.user_id, "project_id": context.project_id, "started": context.now, "now": context.now,
        },
    )  # fmt: skip
