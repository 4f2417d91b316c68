"""Claims on hosts, in the global database (contracts: 2)."""

from __future__ import annotations

from msgspec import Struct

from kilonova.conductor.story import Context, effect
from kilonova.db.database import Tx
from kilonova.db.queries import placing
from kilonova.model.placement import Claim, Conflict
from kilonova.placement import claims


class ClaimArgs(Struct, frozen=True, kw_only=True):
    """One place for each server, all or none."""

    places: tuple[tuple[str, str], ...]
    """(server, provider)."""
    resources: dict[str, int]
    project_id: str
    user_id: str


class Claimed(Struct, frozen=True, kw_only=True):
    ok: bool
    reason: str = ""
    provider: str = ""
    """Who could not take it."""


class ReleaseArgs(Struct, frozen=True, kw_only=True):
    server: str


class ReleaseAllArgs(Struct, frozen=True, kw_only=True):
    servers: tuple[str, ...]


class NoArgs(Struct, frozen=True):
    """Nothing."""


@effect("claim", ClaimArgs, Claimed)
async def claim(tx: Tx, args: ClaimArgs, context: Context) -> Claimed:
    """Claim for all servers or for none; a repeat finds its own claims."""
    wanted = [
        Claim(
            consumer=server, project_id=args.project_id, user_id=args.user_id, provider=provider,
            resources=args.resources, now=context.now,
        )
        for server, provider in args.places
    ]  # fmt: skip
    outcome = await claims.claim_many(tx, wanted)
    if isinstance(outcome, Conflict):
        return Claimed(ok=False, reason=outcome.reason, provider=outcome.provider)
    return Claimed(ok=True)


@effect("reclaim", ClaimArgs, Claimed)
async def reclaim(tx: Tx, args: ClaimArgs, context: Context) -> Claimed:
    """Give back what the servers hold and claim elsewhere instead; a conflict leaves them without a claim.

    A server that was deleted meanwhile claims nothing: this may come late, from an owner that was taken for dead.
    """
    for server, _ in args.places:
        if not await placing.hold(tx, server):
            return Claimed(ok=False, reason="the server is deleted")
        await claims.release(tx, server, context.now)
    answer: Claimed = await claim.function(tx, args, context)
    return answer


@effect("release", ReleaseArgs)
async def release(tx: Tx, args: ReleaseArgs, context: Context) -> None:
    """Give back all that the server holds; nothing to give back is fine."""
    await claims.release(tx, args.server, context.now)


@effect("release_all", ReleaseAllArgs)
async def release_all(tx: Tx, args: ReleaseAllArgs, context: Context) -> None:
    """Give back all that any of the servers holds."""
    for server in sorted(args.servers):
        await claims.release(tx, server, context.now)


@effect("hold", ReleaseArgs)
async def hold(tx: Tx, args: ReleaseArgs, context: Context) -> None:
    """Take a claim over from the operation that made it: its undo is ours from now on."""
