"""reset: what an admin's word on a server's state took out of its lane ends, and can no longer land on a host.

The state itself is shown from the admission on, and whatever is asked of the server next waits in its lane behind
this. A host that is down owes the fence; a later command to the same guest is fence enough.
"""

from __future__ import annotations

from kilonova.conductor.effects.lane import LaneArgs, close_lane
from kilonova.conductor.story import Done, Op, done, story
from kilonova.model.command import Method
from kilonova.model.operation import ResetInputs


@story("reset", ResetInputs, forward_only=True, on_undone="none")
async def reset(op: Op, inputs: ResetInputs) -> Done:
    lane = await op.effect(close_lane, LaneArgs(server=inputs.server, number=op.number))
    await op.all(
        *(
            op.ensure_absent("fence", f"host:{host}", Method.FENCE, None, resource="fence", item=host)
            for host in lane.hosts
        )
    )
    return done()
