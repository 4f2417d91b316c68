"""schedule: choose hosts for N servers, claim all or none, put each into its cell with a build of its own."""

from __future__ import annotations

import msgspec

from kilonova.conductor.effects.claim import ClaimArgs, Claimed, ReleaseAllArgs, claim, release_all
from kilonova.conductor.effects.place import PlaceArgs, Placed, abandon, open_bury, place
from kilonova.conductor.errors import Refused
from kilonova.conductor.operations.bury import enter
from kilonova.conductor.story import Context, Done, Op, Undo, done, story
from kilonova.db.database import Tx
from kilonova.model.operation import BuryInputs, ScheduleInputs
from kilonova.model.scheduling import Choice, GiveBack, Request, demand

_TRIES = 8
_A_STEP = 100
"""Servers placed in one transaction at most: its arguments and its time stay small."""


def _undo_claims(inputs: ScheduleInputs) -> Undo:
    return Undo("db:global", release_all.name, ReleaseAllArgs(servers=inputs.servers), "allocation")


async def _could_not(tx: Tx, inputs: ScheduleInputs, error: str, context: Context) -> None:
    """Undone: no claim is held and nothing was placed (a cell that is away is waited for); they stand as ERROR."""
    facts = msgspec.json.decode(error)
    why = BuryInputs(
        servers=inputs.servers, message=facts.get("message", "The servers could not be placed."),
        details=facts.get("details", ""),
    )  # fmt: skip
    await open_bury(tx, why, context)


@story("schedule", ScheduleInputs, on_undone="none", after_undone=_could_not)
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
            database="global", item=str(attempt), undo=_undo_claims(inputs),
        )  # fmt: skip
        if claimed.ok:
            break
        # Held places count as taken in every decision of this process.
        await op.ask("give_back", "scheduler", "refused", GiveBack(inputs.servers), item=str(attempt))
        if len(inputs.servers) == 1 and claimed.provider:
            tried = tried | {claimed.provider}
    if not claimed.ok:
        if choice:
            raise Refused("No valid host was found. The chosen hosts filled up meanwhile.", "no_host", claimed.reason)
        raise Refused(choice.explanation.for_owner(), "no_host", choice.explanation.for_admin())
    placed_in: dict[str, str] = {}
    failure: Refused | None = None
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
        for n in range(0, len(placed), _A_STEP):
            some = placed[n : n + _A_STEP]
            try:
                await op.effect(
                    place, PlaceArgs(places=some, networks=inputs.networks, resources=inputs.resources),
                    database=cell, item=f"{cell}/{n}" if n else cell,
                )  # fmt: skip
            except Refused as error:
                failure = error
            else:
                placed_in |= {p.server: cell for p in some}
    if failure is not None:
        if not placed_in:
            raise failure
        # Some are in their cells and being built: only the others find no place.
        left = tuple(s for s in inputs.servers if s not in placed_in)
        await op.effect(
            abandon, BuryInputs(servers=left, message=failure.message, details=failure.details), database="global"
        )
    await enter(op, placed_in)
    return done()
