"""start: power on."""

from __future__ import annotations

from kilonova.conductor.effects.lane import LaneArgs, as_before, load_guest
from kilonova.conductor.story import Done, Op, done, story
from kilonova.model.command import Method, PowerArgs
from kilonova.model.guest import GuestFact
from kilonova.model.operation import ServerInputs


@story("start", ServerInputs)
async def start(op: Op, inputs: ServerInputs) -> Done:
    guest = await op.effect(load_guest, LaneArgs(server=inputs.server, number=op.number))
    host = f"host:{guest.host}"
    fact = await op.call(
        "power_on", host, Method.POWER_ON, PowerArgs(spec=guest.spec), GuestFact,
        undo=as_before(guest), event="compute_start_instance",
        budget_s=120,
    )  # fmt: skip
    return done(vm_state="active", power_state=int(fact.power_state), fault=None)
