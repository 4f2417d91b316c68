"""stop: ask the guest to shut down, then power off."""

from __future__ import annotations

from kilonova.conductor.effects.lane import LaneArgs, as_before, load_guest
from kilonova.conductor.story import Done, Op, done, story
from kilonova.model.command import Method, PowerArgs
from kilonova.model.guest import GuestFact
from kilonova.model.operation import StopInputs


@story("stop", StopInputs)
async def stop(op: Op, inputs: StopInputs) -> Done:
    guest = await op.effect(load_guest, LaneArgs(server=inputs.server, number=op.number))
    host = f"host:{guest.host}"
    fact = await op.call(
        "power_off", host, Method.POWER_OFF, PowerArgs(spec=guest.spec, graceful_s=inputs.graceful_s), GuestFact,
        undo=as_before(guest), event="compute_stop_instance",
        budget_s=inputs.graceful_s + 120,
    )  # fmt: skip
    return done(vm_state="stopped", power_state=int(fact.power_state), fault=None)
