"""Claims as write steps: functions of a transaction of the database that holds Placement's tables.

Idempotent by consumer: the same claim again answers as the first time, a release of nothing succeeds.
All or none: a `Conflict` leaves nothing behind, and the transaction may go on. A claim for one consumer is
five statements: consumer, generation (the lock), state, `used`, allocations; and the change that tells others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec.structs import replace

from kilonova.db.database import Tx
from kilonova.db.queries import placement as sql
from kilonova.model.placement import Claim, Claimed, ClassUsage, Conflict, ProviderState, misfit
from kilonova.placement.announce import announce

Outcome = Claimed | Conflict


async def claim(tx: Tx, claim: Claim) -> Outcome:
    """Claim for one consumer."""
    return await claim_many(tx, (claim,))


async def claim_many(tx: Tx, claims: Sequence[Claim]) -> Outcome:
    """Claim for all consumers or for none; several may share a provider. Each consumer is named once."""
    fresh: list[Claim] = []
    known: list[Claim] = []
    for each in sorted(claims, key=_consumer):
        (fresh if await sql.insert_consumer(tx, each) else known).append(each)
    generations: dict[str, int] = {}
    if known:
        conflict = await _same_as_before(tx, known)
        if conflict is not None:
            await _forget(tx, fresh)
            return conflict
        before = await sql.states(tx, sorted({c.provider for c in known}))
        generations = {uuid: state.generation for uuid, state in before.items()}
        if not fresh:
            return Claimed(generations)
    counts = _consumers_by_provider(fresh)
    now = claims[0].now
    locked: list[str] = []
    for provider in sorted(counts):
        if not await sql.lock_provider(tx, provider, counts[provider], now):
            break
        locked.append(provider)
    states = await sql.states(tx, locked) if locked else {}
    outcome = _decide(fresh, states)
    if isinstance(outcome, Conflict):
        for provider in locked:
            await sql.unlock_provider(tx, provider, counts[provider])
        await _forget(tx, fresh)
        return outcome
    for provider in locked:
        await sql.take(tx, provider, outcome[provider])
    for each in fresh:
        await sql.insert_allocations(tx, each.consumer, {each.provider: each.resources})
    settled: dict[str, list[str]] = {}
    for each in fresh:
        settled.setdefault(each.provider, []).append(each.consumer)
    await announce(tx, [moved(states[p], outcome[p], settled[p]) for p in locked], now)
    return Claimed(generations | {p: states[p].generation for p in locked})


async def release(tx: Tx, consumer: str, now: int) -> tuple[str, ...]:
    """Give back all that a consumer holds; the providers it held something of (none: there was nothing)."""
    if not await sql.delete_consumer(tx, consumer):
        return ()
    held = await sql.allocations_of(tx, consumer)
    states: list[ProviderState] = []
    for provider in sorted(held):
        await sql.lock_provider(tx, provider, -1, now, raised=0)  # as Placement: only writes raise what clients compare
        back = {name: -amount for name, amount in held[provider].items()}
        state = (await sql.states(tx, (provider,)))[provider]
        await sql.take(tx, provider, back)
        states.append(moved(state, back, (consumer,)))
    await sql.delete_allocations(tx, consumer)
    await announce(tx, states, now)
    return tuple(held)


async def transfer(tx: Tx, source: str, target: Claim) -> bool:
    """Hand all that `source` holds to `target.consumer` (its provider and resources do not count here).

    False when `source` holds nothing: nothing happened, or it was handed over before.
    """
    held = await sql.allocations_of(tx, source)
    if not held or not await sql.delete_consumer(tx, source):
        return False
    if not await sql.insert_consumer(tx, target):
        raise ValueError(f"consumer {target.consumer} exists already")
    for provider in sorted(held):
        await sql.lock_provider(tx, provider, 0, target.now)
    await sql.delete_allocations(tx, source)
    await sql.insert_allocations(tx, target.consumer, held)
    states = await sql.states(tx, sorted(held))
    await announce(tx, [replace(s, settled=(source,)) for s in states.values()], target.now)
    return True


async def move(tx: Tx, claim: Claim, holder: str) -> Outcome:
    """Claim the destination of a move; until it ends, `holder` (the migration) keeps the source's allocation.

    Repeating it finds the holder and claims nothing twice. Confirm releases the holder; revert releases the
    consumer, then transfers the holder's allocation back.
    """
    held = replace(claim, consumer=holder, type="MIGRATION")
    if await sql.consumer_row(tx, holder) is None:
        await transfer(tx, claim.consumer, held)
    outcome = await claim_many(tx, (claim,))
    if isinstance(outcome, Conflict):
        await transfer(tx, holder, claim)
    return outcome


def moved(state: ProviderState, amounts: Mapping[str, int], settled: Iterable[str]) -> ProviderState:
    """`state` with `used` moved by `amounts`."""
    usage = dict(state.usage)
    for name, n in amounts.items():
        u = usage[name]
        usage[name] = ClassUsage(u.capacity, u.used + n, u.max_unit, u.min_unit, u.step_size)
    return ProviderState(state.uuid, state.generation, state.consumers, usage, tuple(settled))


def _consumer(claim: Claim) -> str:
    return claim.consumer


def _consumers_by_provider(claims: Iterable[Claim]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for each in claims:
        counts[each.provider] = counts.get(each.provider, 0) + 1
    return counts


def _decide(claims: Iterable[Claim], states: Mapping[str, ProviderState]) -> dict[str, dict[str, int]] | Conflict:
    """Amounts by provider and class, or why not; `states` are those under lock."""
    wanted: dict[str, dict[str, int]] = {}
    for each in claims:
        state = states.get(each.provider)
        if state is None:
            return Conflict(f"resource provider {each.provider} does not exist", each.provider)
        taken = wanted.setdefault(each.provider, {})
        for name, amount in each.resources.items():
            usage = state.usage.get(name)
            before = taken.get(name, 0)
            if before and usage is not None:
                usage = ClassUsage(usage.capacity, usage.used + before, *usage_rules(usage))
            reason = misfit(name, amount, usage)
            if reason is not None:
                return Conflict(reason, each.provider)
            taken[name] = before + amount
    return wanted


def usage_rules(usage: ClassUsage) -> tuple[int, int, int]:
    return usage.max_unit, usage.min_unit, usage.step_size


async def _same_as_before(tx: Tx, claims: Iterable[Claim]) -> Conflict | None:
    for each in claims:
        if await sql.allocations_of(tx, each.consumer) != {each.provider: each.resources}:
            return Conflict(
                f"consumer {each.consumer} holds other allocations already", code="placement.concurrent_update"
            )
    return None


async def _forget(tx: Tx, claims: Iterable[Claim]) -> None:
    for each in claims:
        await sql.delete_consumer(tx, each.consumer)
