"""reboot: soft (the guest restarts itself, in the end by force) or hard (off, defined anew, on)."""

from __future__ import annotations

from kilonova.conductor.effects.lane import LaneArgs, as_before, load_guest
from kilonova.conductor.story import Done, Op, done, story
from kilonova.model.command import Method, RebootArgs
from kilonova.model.guest import GuestFact
from kilonova.model.operation import RebootInputs


@story("reboot", RebootInputs)
async def reboot(op: Op, inputs: RebootInputs) -> Done:
    guest = await op.effect(load_guest, LaneArgs(server=inputs.server, number=op.number))
    host = f"host:{guest.host}"
    hard = inputs.kind == "HARD"
    fact = await op.call(
        "reboot", host, Method.REBOOT, RebootArgs(spec=guest.spec, kind=inputs.kind), GuestFact,
        undo=as_before(guest), event="compute_reboot_instance",
        task_state="reboot_started_hard" if hard else "reboot_started", budget_s=180,
    )  # fmt: skip
    return done(vm_state="active", power_state=int(fact.power_state), fault=None)
