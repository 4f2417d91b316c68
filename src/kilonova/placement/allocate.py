"""Setting what consumers hold, as the HTTP API does: any number of providers and consumers, each replaced as a whole.

Raises HTTP errors, which undo the transaction. The rules are those of `claims`: consumers first, then
providers by uuid under their generation, then `used` under the provider's lock.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import UNSET, Struct, UnsetType

from kilonova.db.database import Tx
from kilonova.db.queries import placement as sql
from kilonova.http.errors import BadRequest, Conflict
from kilonova.model.placement import Claim, ClassUsage, ProviderState, misfit
from kilonova.placement.announce import announce
from kilonova.placement.claims import moved, usage_rules
from kilonova.placement.wire import stale

Amounts = dict[str, dict[str, int]]


class Wanted(Struct, frozen=True, kw_only=True):
    """What one consumer shall hold."""

    consumer: str
    allocations: Amounts
    """Provider -> class -> amount; empty = nothing."""
    project_id: str | None
    """None = as it is (a version that does not say)."""
    user_id: str | None
    generation: int | UnsetType | None = UNSET
    """The consumer's generation as the caller knows it; None = it must not exist; unset = whatever it is."""
    type: str | None = None
    """None = as it is."""


async def allocate(tx: Tx, wanted: Sequence[Wanted], now: int) -> None:
    """Set the allocations of all consumers or of none. Raises BadRequest (no such provider), Conflict."""
    before: dict[str, Amounts] = {}
    for each in sorted(wanted, key=lambda w: w.consumer):
        before[each.consumer] = await _consumer(tx, each, now)
    deltas: Amounts = {}
    consumers: dict[str, int] = {}
    touched: dict[str, list[str]] = {}
    for each in wanted:
        old = before[each.consumer]
        for sign, amounts in ((-1, old), (1, each.allocations)):
            for provider, classes in amounts.items():
                into = deltas.setdefault(provider, {})
                for name, amount in classes.items():
                    into[name] = into.get(name, 0) + sign * amount
        for provider in old.keys() | each.allocations.keys():
            count = (provider in each.allocations) - (provider in old)
            consumers[provider] = consumers.get(provider, 0) + count
            touched.setdefault(provider, []).append(each.consumer)
    for provider in sorted(deltas):
        if not await sql.lock_provider(tx, provider, consumers[provider], now):
            raise BadRequest(f"Allocation for resource provider '{provider}' that does not exist.")
    states = await sql.states(tx, sorted(deltas)) if deltas else {}
    _check(wanted, deltas, states)
    for provider in sorted(deltas):
        changes = {name: n for name, n in deltas[provider].items() if n}
        if changes:
            await sql.take(tx, provider, changes)
    for each in wanted:
        if before[each.consumer]:
            await sql.delete_allocations(tx, each.consumer)
        if each.allocations:
            await sql.insert_allocations(tx, each.consumer, each.allocations)
    after = [moved(states[p], {n: d for n, d in deltas[p].items() if d}, touched[p]) for p in sorted(deltas)]
    await announce(tx, after, now)


async def _consumer(tx: Tx, wanted: Wanted, now: int) -> Amounts:
    """Make, raise or delete the consumer under its generation; what it held before."""
    row = await sql.consumer_row(tx, wanted.consumer)
    generation = wanted.generation
    if generation is not UNSET and generation != (row[0] if row else None):
        raise stale(
            f"consumer generation conflict - expected {row[0] if row else 'null'} but got {generation}"
        )
    if row is None:
        if wanted.allocations and not await sql.insert_consumer(tx, _claim(wanted, "", "", "", now)):
            raise stale("the consumer was made meanwhile")
        return {}
    if wanted.allocations:
        if not await sql.touch_consumer(tx, _claim(wanted, row[1], row[2], row[3], now), row[0]):
            raise stale("the consumer changed meanwhile")
    elif not await sql.delete_consumer(tx, wanted.consumer):
        raise stale("the consumer was deleted meanwhile")
    return await sql.allocations_of(tx, wanted.consumer)


def _claim(wanted: Wanted, project_id: str, user_id: str, kind: str, now: int) -> Claim:
    return Claim(
        consumer=wanted.consumer, provider="", resources={}, now=now,
        project_id=project_id if wanted.project_id is None else wanted.project_id,
        user_id=user_id if wanted.user_id is None else wanted.user_id,
        type=kind if wanted.type is None else wanted.type,
    )  # fmt: skip


def _check(wanted: Sequence[Wanted], deltas: Amounts, states: dict[str, ProviderState]) -> None:
    for each in wanted:
        for provider, classes in each.allocations.items():
            usage = states[provider].usage
            for name, amount in classes.items():
                found = usage.get(name)
                # Unit rules by amount; the total below, so that a move within one request may swap places.
                free = None if found is None else ClassUsage(2**62, 0, *usage_rules(found))
                reason = misfit(name, amount, free)
                if found is None:
                    raise Conflict(
                        f"Unable to allocate inventory: Inventory for '{name}' on resource provider "
                        f"'{provider}' invalid."
                    )
                if reason is not None:
                    raise Conflict(f"Unable to allocate inventory: {reason} on resource provider '{provider}'.")
    for provider, changes in deltas.items():
        for name, change in changes.items():
            found = states[provider].usage.get(name)
            if found is not None and change > 0 and found.used + change > found.capacity:
                raise Conflict(
                    f"Unable to allocate inventory: Unable to create allocation for '{name}' on resource provider "
                    f"'{provider}'. The requested amount would exceed the capacity."
                )
