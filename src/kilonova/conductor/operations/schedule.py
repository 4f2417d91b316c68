"""schedule: choose hosts for N servers, claim all or none, put each into its cell with a build of its own."""

from __future__ import annotations

import msgspec

from kilonova.conductor.effects.claim import ClaimArgs, Claimed, ReleaseArgs, claim, release
from kilonova.conductor.effects.lane import UnplaceArgs, unplace
from kilonova.conductor.effects.place import BuryArgs, IndexArgs, PlaceArgs, Placed, bury, index, place
from kilonova.conductor.story import Done, Op, Undo, done, story
from kilonova.model.operation import ScheduleInputs
from kilonova.model.scheduling import Choice, Request, demand

_TRIES = 8


def _undo_claims(op: Op, inputs: ScheduleInputs) -> Undo:
    first, *others = inputs.servers
    return Undo(
        "db:global", release.name, ReleaseArgs(server=first), "allocation",
        keeps=tuple(Undo("db:global", release.name, ReleaseArgs(server=s)) for s in others),
    )  # fmt: skip


async def _index(op: Op, cells: dict[str, str]) -> None:
    """From here on the servers live in their cells; those deleted meanwhile are deleted there."""
    found = await op.effect(index, IndexArgs(cells=cells), database="global")
    for server, request_id in sorted(found.cancelled.items()):
        await op.effect(
            unplace, UnplaceArgs(server=server, request_id=request_id, operation=op.uuid(f"delete/{server}")),
            database=cells[server], item=server,
        )  # fmt: skip


@story("schedule", ScheduleInputs, on_undone="none")
async def schedule(op: Op, inputs: ScheduleInputs) -> Done:
    _, required, forbidden = demand(
        vcpus=0, memory_mb=0, disk_gb=0, extra_specs=inputs.extra_specs, image=inputs.image_properties
    )
    tried: frozenset[str] = frozenset()
    choice = Choice((), msgspec.UNSET)  # type: ignore[arg-type]  # replaced before it is read
    claimed = Claimed(ok=False)
    for attempt in range(_TRIES):
        choice = await op.ask(
            "choose", "scheduler", "select",
            Request(
                servers=inputs.servers, resources=inputs.resources, required=required, forbidden=forbidden,
                zone=inputs.zone, host=inputs.host, node=inputs.node, force=inputs.force,
                exclude=tried, image=inputs.image_properties, extra_specs=inputs.extra_specs, hints=inputs.hints,
                project_id=op.project_id, user_id=op.user_id, seed=op.chance(f"choose/{attempt}").getrandbits(32),
            ),
            Choice, item=str(attempt),
        )  # fmt: skip
        if not choice:
            break
        claimed = await op.effect(
            claim,
            ClaimArgs(
                places=tuple((p.server, p.host.uuid) for p in choice.places), resources=inputs.resources,
                project_id=op.project_id, user_id=op.user_id,
            ),
            database="global", item=str(attempt), undo=_undo_claims(op, inputs),
        )  # fmt: skip
        if claimed.ok:
            break
        if len(inputs.servers) == 1 and claimed.provider:
            tried = tried | {claimed.provider}
    if not claimed.ok:
        message = choice.explanation.for_owner() if not choice else f"No valid host was found. {claimed.reason}"
        details = choice.explanation.for_admin() if not choice else claimed.reason
        await op.effect(
            bury, BuryArgs(servers=inputs.servers, action=op.uuid("create"), message=message, details=details),
            database="cell0",
        )  # fmt: skip
        await _index(op, dict.fromkeys(inputs.servers, "cell0"))
        return done()
    cells = sorted({p.host.cell for p in choice.places})
    for cell in cells:
        placed = tuple(
            Placed(
                server=p.server, build=op.uuid(f"build/{p.server}"), host=p.host.host, node=p.host.node,
                provider=p.host.uuid, zone=p.host.zone,
                alternates=tuple((a.host, a.node, a.uuid) for a in p.alternates if a.cell == cell),
            )
            for p in choice.places if p.host.cell == cell
        )  # fmt: skip
        await op.effect(
            place, PlaceArgs(places=placed, networks=inputs.networks, resources=inputs.resources),
            database=cell, item="" if len(cells) == 1 else cell,
        )  # fmt: skip
    await _index(op, {p.server: p.host.cell for p in choice.places})
    return done()
