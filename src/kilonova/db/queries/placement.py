"""SQL of claims: what holds `inventories.used` = the sum of allocations <= capacity.

Lock order: consumers, then providers by uuid, then what belongs to them. Raising a provider's revision
takes its row; until the transaction ends nobody else moves its `used`, so what is read afterwards decides.
The UPDATE of `used` repeats the condition all the same: a writer that forgets the order fails loudly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

from kilonova.db.database import Tx
from kilonova.db.errors import DatabaseError
from kilonova.db.statement import Row, Statement, Value, in_list, in_values
from kilonova.model.placement import Claim, ClassUsage, ProviderState

_INSERT_CONSUMER = Statement(
    """INSERT INTO consumers (uuid, project_id, user_id, type, generation, created_at, updated_at)
       VALUES (:uuid, :project_id, :user_id, :type, :generation, :now, :now)"""
)
_TOUCH_CONSUMER = Statement(
    """UPDATE consumers SET generation = generation + 1, project_id = :project_id, user_id = :user_id, type = :type,
       updated_at = :now WHERE uuid = :uuid AND generation = :generation"""
)
_DELETE_CONSUMER = Statement("DELETE FROM consumers WHERE uuid = :uuid")
_CONSUMER = Statement("SELECT generation, project_id, user_id, type FROM consumers WHERE uuid = :uuid")
_BUMP = Statement(
    """UPDATE resource_providers SET revision = revision + 1, generation = generation + :raised,
       consumers = consumers + :consumers, updated_at = :now WHERE uuid = :uuid"""
)
_UNBUMP = Statement(
    """UPDATE resource_providers SET revision = revision - 1, generation = generation - 1,
       consumers = consumers - :consumers WHERE uuid = :uuid"""
)
_INSERT_ALLOCATION = Statement(
    """INSERT INTO allocations (consumer, provider, resource_class, amount)
       VALUES (:consumer, :provider, :resource_class, :amount)"""
)
_DELETE_ALLOCATIONS = Statement("DELETE FROM allocations WHERE consumer = :consumer")
ALLOCATIONS = Statement("SELECT provider, resource_class, amount FROM allocations WHERE consumer = :consumer")

_STATE_SQL = """SELECT p.uuid, p.revision, p.consumers, i.resource_class, i.capacity, i.used, i.max_unit,
                i.min_unit, i.step_size FROM resource_providers p LEFT JOIN inventories i ON i.provider = p.uuid
                WHERE p.uuid {}"""
_STATE = Statement(_STATE_SQL.format("= :uuid"))


@cache
def _states(count: int) -> Statement:
    return Statement(_STATE_SQL.format("IN " + in_list("uuid", count)[0]))


@cache
def _take(count: int) -> Statement:
    """Move `used` of `count` classes of one provider by :n_i (negative to give back)."""
    each = range(count)
    cases = " ".join(f"WHEN :c_{i} THEN used + :n_{i}" for i in each)
    # Giving back is allowed over capacity: an inventory may have shrunk below what is used.
    fits = " OR ".join(f"(resource_class = :c_{i} AND (:n_{i} <= 0 OR used + :n_{i} <= capacity))" for i in each)
    return Statement(
        f"UPDATE inventories SET used = CASE resource_class {cases} ELSE used END "
        f"WHERE provider = :provider AND ({fits})"
    )


TAKE_3 = _take(3)
"""The usual claim, here so that tools which walk the statements see it."""
STATES_4 = _states(4)

Amounts = Mapping[str, Mapping[str, int]]
"""Provider -> resource class -> amount."""


async def insert_consumer(tx: Tx, claim: Claim) -> bool:
    """Insert the consumer of a claim at generation 1; False when it is there already."""
    return await tx.insert_if_absent(
        _INSERT_CONSUMER,
        {
            "uuid": claim.consumer,
            "project_id": claim.project_id,
            "user_id": claim.user_id,
            "type": claim.type,
            "generation": 1,
            "now": claim.now,
        },
    )


async def touch_consumer(tx: Tx, claim: Claim, generation: int) -> bool:
    """Raise an existing consumer's generation if it still is `generation`, with the claim's owner and type."""
    params: dict[str, Value] = {
        "uuid": claim.consumer,
        "project_id": claim.project_id,
        "user_id": claim.user_id,
        "type": claim.type,
        "generation": generation,
        "now": claim.now,
    }
    return await tx.execute(_TOUCH_CONSUMER, params) == 1


async def delete_consumer(tx: Tx, consumer: str) -> bool:
    return await tx.execute(_DELETE_CONSUMER, {"uuid": consumer}) == 1


async def consumer_row(tx: Tx, consumer: str) -> tuple[int, str, str, str] | None:
    """(generation, project, user, type)."""
    return await tx.fetch_one(_CONSUMER, {"uuid": consumer})


async def allocations_of(tx: Tx, consumer: str) -> dict[str, dict[str, int]]:
    """Provider -> resource class -> amount."""
    return fold_allocations(await tx.fetch(ALLOCATIONS, {"consumer": consumer}))


def fold_allocations(rows: Sequence[Row]) -> dict[str, dict[str, int]]:
    """Rows of (provider, class, amount) as provider -> class -> amount."""
    found: dict[str, dict[str, int]] = {}
    for provider, name, amount in rows:
        found.setdefault(provider, {})[name] = amount
    return found


async def lock_provider(tx: Tx, uuid: str, consumers: int, now: int, raised: int = 1) -> bool:
    """Raise a provider's revision, generation (by `raised`) and count of consumers: its lock.

    False when there is no such provider.
    """
    return await tx.execute(_BUMP, {"uuid": uuid, "consumers": consumers, "now": now, "raised": raised}) == 1


async def unlock_provider(tx: Tx, uuid: str, consumers: int) -> None:
    """Take back `lock_provider` when nothing changed after all; the row stays locked till the end."""
    await tx.execute(_UNBUMP, {"uuid": uuid, "consumers": consumers})


async def states(tx: Tx, providers: Sequence[str]) -> dict[str, ProviderState]:
    """The providers' states as this transaction sees them; unknown ones are left out."""
    if len(providers) == 1:
        rows = await tx.fetch(_STATE, {"uuid": providers[0]})
    else:
        rows = []
        for at in range(0, len(providers), 1000):
            part: list[Value] = list(providers[at : at + 1000])
            rows += await tx.fetch(_states(min(1000, 1 << (len(part) - 1).bit_length())), in_values("uuid", part))
    return fold_states(rows)


def fold_states(rows: Sequence[Row]) -> dict[str, ProviderState]:
    """Rows of (provider, revision, consumers, class, capacity, used, max, min, step) as states by provider."""
    found: dict[str, ProviderState] = {}
    usage: dict[str, ClassUsage] = {}
    last = None
    for uuid, generation, consumers, name, *amounts in rows:
        if uuid != last:
            state = found.get(uuid)
            if state is None:
                state = ProviderState(uuid, generation, consumers, {})
                found[state.uuid] = state
            usage, last = state.usage, uuid
        if name is not None:
            usage[name] = ClassUsage(*amounts)
    return found


async def take(tx: Tx, provider: str, amounts: Mapping[str, int]) -> None:
    """Move `used` under the provider's lock; raises when the inventories were not as the lock promised."""
    params: dict[str, Value] = {"provider": provider}
    for i, (name, amount) in enumerate(sorted(amounts.items())):
        params[f"c_{i}"], params[f"n_{i}"] = name, amount
    if await tx.execute(_take(len(amounts)), params) != len(amounts):
        raise DatabaseError(f"inventories of provider {provider} moved without its lock")


async def insert_allocations(tx: Tx, consumer: str, amounts: Amounts) -> None:
    await tx.execute_many(
        _INSERT_ALLOCATION,
        [
            {"consumer": consumer, "provider": provider, "resource_class": name, "amount": amount}
            for provider, classes in amounts.items()
            for name, amount in classes.items()
        ],
    )


async def delete_allocations(tx: Tx, consumer: str) -> None:
    await tx.execute(_DELETE_ALLOCATIONS, {"consumer": consumer})
