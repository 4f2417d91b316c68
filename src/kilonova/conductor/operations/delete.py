"""delete: always wins, leaves nothing; what a host that is down still holds becomes a debt."""

from __future__ import annotations

from kilonova.conductor.effects.claim import ReleaseArgs, release
from kilonova.conductor.effects.farewell import ArchiveArgs, ForgetArgs, archive, forget
from kilonova.conductor.effects.lane import LaneArgs, close_lane
from kilonova.conductor.story import Done, Op, Undo, done, story
from kilonova.model.command import DestroyArgs, Method
from kilonova.model.operation import ServerInputs
from kilonova.network.port import PortsOf

EVENT = "compute_terminate_instance"


@story("delete", ServerInputs, forward_only=True, on_undone="error")
async def delete(op: Op, inputs: ServerInputs) -> Done:
    server = inputs.server
    lane = await op.effect(close_lane, LaneArgs(server=server, number=op.number), event=EVENT)
    ports = PortsOf(server=server, keep=lane.ports_kept)
    used = (
        Undo("network", "ensure_no_ports", ports, "ports"),
        Undo("db:global", release.name, ReleaseArgs(server=server), "allocation"),
    )
    absent = await op.all(
        *(
            op.ensure_absent(
                "destroy", f"host:{host}", Method.DESTROY, DestroyArgs(), resource="guest", item=host, keeps=used
            )
            for host in lane.hosts
        )
    )
    gone = all(absent)
    if gone:
        await op.ensure_absent("ports", "network", "ensure_no_ports", ports, resource="ports")
    await op.effect(forget, ForgetArgs(server=server, release=gone), database="global")
    await op.effect(archive, ArchiveArgs(server=server))
    return done(vm_state="deleted")
