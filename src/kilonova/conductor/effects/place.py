"""Putting scheduled servers into their cell, with the operation that builds each (contracts: 2, place).

Idempotent by server uuid: a repeat finds rows and operations.
"""

from __future__ import annotations

from uuid import UUID, uuid5

import msgspec
from msgspec import Struct

from kilonova.conductor.story import Context, effect
from kilonova.db.database import Database, Tx
from kilonova.db.queries import placing, server_state
from kilonova.db.queries.operations import open_operation
from kilonova.model.guest import GuestSpec, ImageRef
from kilonova.model.operation import BuildInputs, BuryInputs, NewOperation, RequestedNetwork
from kilonova.model.server import Fault, Flavor, Server
from kilonova.placement import claims

_server = msgspec.json.Decoder(Server)
_flavor = msgspec.json.Decoder(Flavor)
_image = msgspec.json.Decoder(ImageRef | None)
encode = msgspec.json.Encoder().encode


class Placed(Struct, frozen=True, kw_only=True):
    """One server's place."""

    server: str
    build: str
    """The id of its build operation."""
    host: str
    node: str
    provider: str
    zone: str
    alternates: tuple[tuple[str, str, str], ...] = ()


class PlaceArgs(Struct, frozen=True, kw_only=True):
    places: tuple[Placed, ...]
    networks: tuple[RequestedNetwork, ...] = ()
    resources: dict[str, int]


class IndexArgs(Struct, frozen=True, kw_only=True):
    cells: dict[str, str]
    """Server -> cell."""


class Indexed(Struct, frozen=True, kw_only=True):
    cancelled: dict[str, str] = {}
    """Server -> the request that deleted it before it was placed."""


async def _requests(tx: Tx, servers: tuple[str, ...], context: Context) -> list[Server]:
    """The rows as the API wrote them, from this database or as read from the global one."""
    found: list[str] = await placing.requests(tx, servers) if context.given is None else context.given
    return [_server.decode(text) for text in found]


async def _placed_requests(source: Database, args: PlaceArgs) -> list[str]:
    return await placing.requests_of(source, tuple(place.server for place in args.places))


async def _buried_requests(source: Database, args: BuryInputs) -> list[str]:
    return await placing.requests_of(source, args.servers)


def guest_spec(server: Server) -> GuestSpec:
    """What a host needs to know of a server, without its interfaces."""
    flavor = _flavor.decode(server.flavor)
    image = _image.decode(server.image) if server.image_id else None
    return GuestSpec(
        uuid=server.uuid, name=server.name, instance_name=server.instance_name, hostname=server.hostname,
        project_id=server.project_id, user_id=server.user_id, vcpus=flavor.vcpus, memory_mb=flavor.memory_mb,
        root_gb=flavor.root_gb, ephemeral_gb=flavor.ephemeral_gb, swap_mb=flavor.swap_mb, image=image,
        config_drive=bool(server.config_drive), flavor_extra_specs=flavor.extra_specs,
    )  # fmt: skip


@effect("place", PlaceArgs, reads=_placed_requests)
async def place(tx: Tx, args: PlaceArgs, context: Context) -> None:
    """Insert each server's row and its `build` operation."""
    by_id = {p.server: p for p in args.places}
    for server in await _requests(tx, tuple(by_id), context):
        where = by_id[server.uuid]
        if await server_state.exists(tx, server.uuid):
            continue
        server.host, server.node, server.availability_zone = where.host, where.node, where.zone
        server.vm_state, server.task_state = "building", "scheduling"
        server.operation_id = where.build
        server.updated_at = context.now
        server.generation += 1
        number = server.next_number
        server.next_number = number + 1
        await server_state.insert(tx, server)
        inputs = BuildInputs(
            server=server.uuid, host=where.host, node=where.node, provider=where.provider, spec=guest_spec(server),
            networks=args.networks, alternates=where.alternates, resources=args.resources,
        )  # fmt: skip
        await open_operation(
            tx,
            NewOperation(
                id=where.build, story="build", target=server.uuid, number=number, inputs=encode(inputs),
                request_id=context.request_id, user_id=context.user_id, project_id=context.project_id,
                created_at=context.now,
            ),
        )  # fmt: skip
        context.opened.append(where.build)
        await _start_action(tx, server, where.build, context)


async def _start_action(tx: Tx, server: Server, action_id: str, context: Context) -> None:
    await tx.execute(
        server_state.START_ACTION,
        {
            "id": action_id, "server": server.uuid, "request_id": context.request_id, "action": "create",
            "user_id": context.user_id, "project_id": context.project_id, "started": server.created_at,
            "now": context.now,
        },
    )  # fmt: skip


@effect("stand_in_error", BuryInputs, reads=_buried_requests)
async def stand_in_error(tx: Tx, args: BuryInputs, context: Context) -> None:
    """Insert servers that found no host as ERROR, with the reason."""
    for server in await _requests(tx, args.servers, context):
        if await server_state.exists(tx, server.uuid):
            continue
        fault = Fault(
            code=500, message=args.message[:255], created=context.now, details=args.message, admin_details=args.details
        )
        server.vm_state, server.task_state, server.fault = "error", None, encode(fault).decode()
        server.operation_id = None
        server.updated_at = context.now
        server.generation += 1
        await server_state.insert(tx, server)
        action = str(uuid5(UUID(context.operation_id), f"create/{server.uuid}"))
        await _start_action(tx, server, action, context)
        await tx.execute(server_state.FINISH_ACTION, {"id": action, "message": "Error", "now": context.now})


async def open_bury(tx: Tx, inputs: BuryInputs, context: Context) -> None:
    """Open the operation that lets servers stand as ERROR; its place in the order is its creation."""
    operation = NewOperation(
        id=str(uuid5(UUID(context.operation_id), "bury")), story="bury", target=None, number=0,
        inputs=encode(inputs), request_id=context.request_id, user_id=context.user_id,
        project_id=context.project_id, created_at=context.now,
    )  # fmt: skip
    await open_operation(tx, operation)
    context.opened.append(operation.id)


@effect("abandon", BuryInputs)
async def abandon(tx: Tx, args: BuryInputs, context: Context) -> None:
    """Give back the claims of servers that could not be placed, and let them stand as ERROR."""
    for server in sorted(args.servers):
        await claims.release(tx, server, context.now)
    await open_bury(tx, args, context)


@effect("index", IndexArgs, Indexed)
async def index(tx: Tx, args: IndexArgs, context: Context) -> Indexed:
    """Tell the index in which cell each server is, and learn which were deleted meanwhile."""
    cancelled = {}
    for server, cell in sorted(args.cells.items()):
        request = await placing.set_cell(tx, server, cell)
        if request is not None:
            cancelled[server] = request
    return Indexed(cancelled=cancelled)
