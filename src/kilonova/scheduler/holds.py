"""Own choices that are not seen in the database yet."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

HOLD_S = 10.0
"""After so long a choice without a claim counts as given up."""


@dataclass(frozen=True, slots=True)
class Hold:
    """One place held for one consumer."""

    consumer: str
    row: int
    resources: Mapping[str, int]
    until: float


class Holds:
    """By consumer, in the order they were made (and so in the order they run out)."""

    def __init__(self) -> None:
        self._by_consumer: dict[str, Hold] = {}
        self._by_row: dict[int, dict[str, Hold]] = {}

    def __len__(self) -> int:
        return len(self._by_consumer)

    def all(self) -> tuple[Hold, ...]:
        return tuple(self._by_consumer.values())

    def add(self, hold: Hold) -> None:
        self._by_consumer[hold.consumer] = hold
        self._by_row.setdefault(hold.row, {})[hold.consumer] = hold

    def remove(self, consumer: str) -> Hold | None:
        hold = self._by_consumer.pop(consumer, None)
        if hold is not None:
            row = self._by_row[hold.row]
            del row[consumer]
            if not row:
                del self._by_row[hold.row]
        return hold

    def expired(self, now: float) -> list[str]:
        """Consumers whose holds have run out at `now`, oldest first."""
        found: list[str] = []
        for consumer, hold in self._by_consumer.items():
            if hold.until > now:
                break
            found.append(consumer)
        return found

    def settle_row(self, row: int, settled: Collection[str] | None) -> dict[str, int]:
        """Drop the holds on a row that a newer state has taken in; the amounts that stay held, by class.

        `settled` names their consumers; None says nothing about them, then all go.
        """
        holds = self._by_row.get(row)
        if not holds:
            return {}
        for consumer in list(holds) if settled is None else settled:
            if consumer in holds:
                self.remove(consumer)
        amounts: dict[str, int] = {}
        for hold in self._by_row.get(row, {}).values():
            for name, amount in hold.resources.items():
                amounts[name] = amounts.get(name, 0) + amount
        return amounts

    def drop_row(self, row: int) -> None:
        for consumer in list(self._by_row.get(row, ())):
            self.remove(consumer)
