"""The last writes of a server: quota and index in the global database, its row into the archive."""

from __future__ import annotations

from msgspec import Struct

from kilonova.conductor.story import Context, effect
from kilonova.db.changes import emit
from kilonova.db.database import Tx
from kilonova.db.queries import placing, quota, server_state
from kilonova.placement import claims


class ForgetArgs(Struct, frozen=True, kw_only=True):
    server: str
    release: bool
    """Whether its claim is given back as well (not while a debt still uses it)."""


class ArchiveArgs(Struct, frozen=True, kw_only=True):
    server: str


@effect("forget", ForgetArgs)
async def forget(tx: Tx, args: ForgetArgs, context: Context) -> None:
    """Give back claim and quota, drop the index row; the row's going makes it happen once, and ends late claims."""
    row = await tx.fetch_one(placing.FIND, {"uuid": args.server})
    known = row is not None and await placing.delete(tx, args.server)
    if args.release:
        await claims.release(tx, args.server, context.now)
    if row is not None and known:
        project_id, user_id, _, vcpus, memory_mb = row[:5]
        await quota.give_back(tx, project_id, user_id, {"instances": 1, "cores": vcpus, "ram": memory_mb})


@effect("archive", ArchiveArgs)
async def archive(tx: Tx, args: ArchiveArgs, context: Context) -> None:
    """Move the server's row to the archive, as deleted."""
    server = await server_state.load(tx, args.server)
    if server is None:
        return
    await tx.execute(server_state.DELETE, {"uuid": args.server})
    server.vm_state, server.task_state, server.power_state = "deleted", None, 0
    server.operation_id = None
    server.deleted_at = server.terminated_at = server.updated_at = context.now
    server.generation += 1
    await tx.insert_if_absent(
        server_state.INSERT_ARCHIVED, {c: getattr(server, c) for c in server_state.COLUMNS}
    )
    payload = server_state.state_payload(("deleted", None, 0, server.generation, server.project_id, server.host))
    await emit(tx, "server", server.uuid, server.project_id, server.generation, payload, context.now)
