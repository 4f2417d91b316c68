"""bury: servers without a host stand in cell0 as ERROR, with the reason; those deleted meanwhile are deleted there."""

from __future__ import annotations

from kilonova.conductor.effects.lane import UnplaceArgs, unplace
from kilonova.conductor.effects.place import IndexArgs, index, stand_in_error
from kilonova.conductor.story import Done, Op, done, story
from kilonova.model.operation import BuryInputs


async def enter(op: Op, cells: dict[str, str]) -> None:
    """From here on the servers live in their cells; a delete that came before is opened there."""
    found = await op.effect(index, IndexArgs(cells=cells), database="global")
    for server, request_id in sorted(found.cancelled.items()):
        await op.effect(
            unplace, UnplaceArgs(server=server, request_id=request_id, operation=op.uuid(f"delete/{server}")),
            database=cells[server], item=server,
        )  # fmt: skip


@story("bury", BuryInputs, forward_only=True, on_undone="none")
async def bury(op: Op, inputs: BuryInputs) -> Done:
    await op.effect(stand_in_error, inputs, database="cell0")
    await enter(op, dict.fromkeys(inputs.servers, "cell0"))
    return done()
