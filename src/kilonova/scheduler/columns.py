"""Host state as columns: one row per host, one preallocated array per fact.

A row is found by the host's uuid and never moves; a host that goes leaves a dead row that the next new one takes. A
newer generation wins, older news is ignored. What this scheduler chose itself is subtracted at once and
held until its claim shows up, is refused, or 10 s have passed. Lives on one thread. Knows no database.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from kilonova.model.host_facts import AggregateFact, HostFact, ServiceFact
from kilonova.model.placement import ProviderState
from kilonova.model.scheduling import HostRef
from kilonova.scheduler.arrays import Bools, Ints, NDArray, np
from kilonova.scheduler.holds import Hold, Holds

DEFAULT_ZONE = "nova"
_TEXTS_KEPT = 1000
_decode_traits = msgspec.json.Decoder(tuple[str, ...]).decode
_decode_support = msgspec.json.Decoder(tuple[tuple[str, str, str], ...]).decode


class Vocabulary:
    """Small numbers for texts that repeat (zones, cells)."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}
        self.texts: list[str] = []

    def number(self, text: str) -> int:
        found = self.numbers.get(text)
        if found is None:
            found = self.numbers[text] = len(self.texts)
            self.texts.append(text)
        return found


class ClassColumns:
    """One resource class over all hosts."""

    def __init__(self, size: int) -> None:
        self.capacity: Ints = np.zeros(size, np.int64)
        self.free: Ints = np.zeros(size, np.int64)
        """capacity - used - held; negative when an inventory shrank below its use."""
        self.most: Ints = np.zeros(size, np.int64)
        """The largest amount that one request may take: min(free, max_unit)."""
        self.max_unit: Ints = np.zeros(size, np.int64)
        self.odd: dict[int, tuple[int, int]] = {}
        """(min_unit, step_size) of the few rows where they are not 1."""


class HostColumns:
    """All hosts. Read-only for filters and weighers."""

    def __init__(self, size: int = 256) -> None:
        self.size = size
        self.count = 0
        """Rows in use are below this; dead ones among them are not `alive`."""
        self.layout = 0
        """Changes whenever a host gets or leaves a row."""
        self.uuid: list[str] = []
        self.host: list[str] = []
        self.node: list[str] = []
        self.row: dict[str, int] = {}
        self.rows_of_host: dict[str, list[int]] = {}
        self.zones, self.cells = Vocabulary(), Vocabulary()
        self.zones.number(DEFAULT_ZONE)
        self.traits: dict[str, int] = {}
        """Trait -> bit."""
        self.supports: list[tuple[frozenset[tuple[str, str, str]], int]] = []
        """Distinct (supported instances, hypervisor version); `support` numbers them."""
        self.aggregates: dict[str, AggregateFact] = {}
        self.aggregates_of: dict[str, tuple[str, ...]] = {}
        """Host name -> uuids of its aggregates."""
        self.classes: dict[str, ClassColumns] = {}
        self.alive: Bools = np.zeros(size, np.bool_)
        self.enabled: Bools = np.zeros(size, np.bool_)
        self.up: Bools = np.zeros(size, np.bool_)
        self.available: Bools = np.zeros(size, np.bool_)
        """alive, enabled and up."""
        self.zone: NDArray[np.int32] = np.zeros(size, np.int32)
        self.cell: NDArray[np.int32] = np.zeros(size, np.int32)
        self.support: NDArray[np.int32] = np.zeros(size, np.int32)
        self.generation: Ints = np.full(size, -1, np.int64)
        self.described: Ints = np.full(size, -1, np.int64)
        """Generation of the row in `hosts`."""
        self.owing: Bools = np.zeros(size, np.bool_)
        """Has debts."""
        self.instances: Ints = np.zeros(size, np.int64)
        self.trait_words: NDArray[np.uint64] = np.zeros((1, size), np.uint64)
        self.holds = Holds()
        self._trait_texts: dict[str, list[int]] = {}
        self._support_numbers: dict[tuple[str, int], int] = {}
        self._dead: list[int] = []
        self.services: dict[str, ServiceFact] = {}
        self._scratch: dict[tuple[str, Any], NDArray[Any]] = {}

    def __len__(self) -> int:
        return len(self.row)

    def __repr__(self) -> str:
        return f"<HostColumns {len(self)} hosts, {len(self.classes)} classes, {len(self.traits)} traits>"

    # reading

    def ref(self, row: int) -> HostRef:
        """What others need to know of a row."""
        zone, cell = self.zones.texts[int(self.zone[row])], self.cells.texts[int(self.cell[row])]
        return HostRef(self.uuid[row], self.host[row], self.node[row], cell, zone)

    def scratch(self, name: str, kind: type[Any]) -> NDArray[Any]:
        """A buffer of at least `count` items that keeps its memory between calls; contents are left-overs."""
        key = (name, kind)
        buffer = self._scratch.get(key)
        if buffer is None or len(buffer) < self.size:
            buffer = self._scratch[key] = np.empty(self.size, kind)
        return buffer[: self.count]

    def has_trait(self, row: int, name: str) -> bool:
        bit = self.traits.get(name)
        return bit is not None and bool(int(self.trait_words[bit >> 6, row]) >> (bit & 63) & 1)

    # hosts

    def put_host(self, fact: HostFact) -> bool:
        """Add a host or take in a description of it that is not older (its traits have no generation of their own)."""
        row = self.row.get(fact.uuid)
        if row is None:
            row = self._new_row(fact)
        elif self.described[row] > fact.generation:
            return False
        self.described[row] = fact.generation
        if self.host[row] != fact.host:
            self.rows_of_host[self.host[row]].remove(row)
            self.rows_of_host.setdefault(fact.host, []).append(row)
            self.host[row] = fact.host
            self.layout += 1
        self.node[row] = fact.node
        self.cell[row] = self.cells.number(fact.cell)
        self.owing[row] = fact.debts > 0
        self.support[row] = self._support(fact.supported_instances, fact.hypervisor_version)
        self._put_traits(row, fact.traits)
        self._put_zone(row)
        self._put_service(row)
        return True

    def drop_host(self, uuid: str) -> None:
        """Forget a host."""
        row = self.row.pop(uuid, None)
        if row is None:
            return
        self.alive[row] = self.available[row] = self.up[row] = False
        for column in self.classes.values():
            column.capacity[row] = column.free[row] = column.most[row] = column.max_unit[row] = 0
            column.odd.pop(row, None)
        self.holds.drop_row(row)
        self.rows_of_host[self.host[row]].remove(row)
        self._dead.append(row)
        self.layout += 1

    def _new_row(self, fact: HostFact) -> int:
        if self._dead:
            row = self._dead.pop()
            self.uuid[row], self.host[row], self.node[row] = fact.uuid, fact.host, fact.node
        else:
            row = self.count
            if row == self.size:
                self._grow()
            self.count += 1
            self.uuid.append(fact.uuid)
            self.host.append(fact.host)
            self.node.append(fact.node)
        self.generation[row] = self.described[row] = -1
        self.row[fact.uuid] = row
        self.rows_of_host.setdefault(fact.host, []).append(row)
        self.alive[row] = True
        self.layout += 1
        return row

    def _grow(self) -> None:
        self.size *= 2
        for name in (
            "alive", "enabled", "up", "available", "zone", "cell", "support", "generation", "described", "instances",
            "owing",
        ):  # fmt: skip
            setattr(self, name, _longer(getattr(self, name), self.size))
        self.trait_words = _longer(self.trait_words, self.size)
        for column in self.classes.values():
            for name in ("capacity", "free", "most", "max_unit"):
                setattr(column, name, _longer(getattr(column, name), self.size))

    def _support(self, text: str, version: int) -> int:
        key = (text, version)
        number = self._support_numbers.get(key)
        if number is None:
            number = self._support_numbers[key] = len(self.supports)
            self.supports.append((frozenset(_decode_support(text)), version))
        return number

    def _put_traits(self, row: int, text: str) -> None:
        words = self._trait_texts.get(text)
        if words is None:
            words = []
            for name in _decode_traits(text):
                bit = self.traits.setdefault(name, len(self.traits))
                while bit >> 6 >= len(words):
                    words.append(0)
                words[bit >> 6] |= 1 << (bit & 63)
            while len(self.trait_words) < len(words):
                self.trait_words = np.vstack([self.trait_words, np.zeros((1, self.size), np.uint64)])
            if len(self._trait_texts) < _TEXTS_KEPT:
                self._trait_texts[text] = words
        for word in range(len(self.trait_words)):
            self.trait_words[word, row] = words[word] if word < len(words) else 0

    # services and aggregates

    def put_service(self, fact: ServiceFact) -> None:
        """Take in whether a host's service is enabled."""
        known = self.services.get(fact.host)
        if known is not None and known.generation > fact.generation:
            return
        self.services[fact.host] = fact
        for row in self.rows_of_host.get(fact.host, ()):
            self._put_service(row)

    def drop_service(self, host: str) -> None:
        """A host without a service takes nothing."""
        if self.services.pop(host, None) is not None:
            for row in self.rows_of_host.get(host, ()):
                self._put_service(row)

    def put_up(self, up: Bools) -> None:
        """Set which rows are alive by their beats."""
        np.copyto(self.up[: self.count], up)
        np.logical_and(self.up, self.enabled, out=self.available)
        np.logical_and(self.available, self.alive, out=self.available)

    def set_up(self, row: int, up: bool) -> None:
        self.up[row] = up
        self.available[row] = up and self.enabled[row] and self.alive[row]

    def _put_service(self, row: int) -> None:
        service = self.services.get(self.host[row])
        self.enabled[row] = service is not None and not (service.disabled or service.forced_down)
        self.set_up(row, bool(self.up[row]))

    def put_aggregates(self, facts: Iterable[AggregateFact]) -> None:
        """Replace all aggregates."""
        self.aggregates = {fact.uuid: fact for fact in facts}
        found: dict[str, list[str]] = {}
        for fact in self.aggregates.values():
            for host in fact.hosts:
                found.setdefault(host, []).append(fact.uuid)
        self.aggregates_of = {host: tuple(uuids) for host, uuids in found.items()}
        for row in self.row.values():
            self._put_zone(row)

    def _put_zone(self, row: int) -> None:
        zone = DEFAULT_ZONE
        for uuid in self.aggregates_of.get(self.host[row], ()):
            zone = self.aggregates[uuid].zone or zone
        self.zone[row] = self.zones.number(zone)

    # what is used

    def apply(self, state: ProviderState) -> bool:
        """Take in a provider's state if it is newer; False when it was not, or is of no host."""
        row = self.row.get(state.uuid)
        if row is None:
            return False
        if self.generation[row] >= state.generation:
            for consumer in state.settled or ():  # what is newer holds this already
                self.let_go(consumer)
            return False
        self.generation[row] = state.generation
        self.instances[row] = state.consumers
        held = self.holds.settle_row(row, state.settled)
        for name in self.classes.keys() - state.usage.keys():
            column = self.classes[name]
            column.capacity[row] = column.free[row] = column.most[row] = column.max_unit[row] = 0
        for name, usage in state.usage.items():
            column = self.column(name)
            column.capacity[row] = usage.capacity
            column.free[row] = free = usage.capacity - usage.used - held.get(name, 0)
            column.max_unit[row] = usage.max_unit
            column.most[row] = min(free, usage.max_unit)
            if usage.min_unit != 1 or usage.step_size != 1:
                column.odd[row] = (usage.min_unit, usage.step_size)
            elif column.odd:
                column.odd.pop(row, None)
        return True

    def column(self, name: str) -> ClassColumns:
        """The columns of a resource class, made when first seen."""
        found = self.classes.get(name)
        if found is None:
            found = self.classes[name] = ClassColumns(self.size)
        return found

    # own choices

    def hold(self, consumer: str, row: int, resources: Mapping[str, int], until: float) -> None:
        """Subtract an own choice; `until` in seconds of the monotonic clock."""
        self.let_go(consumer)
        self.holds.add(Hold(consumer, row, dict(resources), until))
        self._shift(row, resources, -1)

    def let_go(self, consumer: str) -> None:
        """Add an own choice back: its claim was refused or never made."""
        hold = self.holds.remove(consumer)
        if hold is not None:
            self._shift(hold.row, hold.resources, 1)

    def expire(self, now: float) -> None:
        """Let go of own choices whose time is over."""
        for consumer in self.holds.expired(now):
            self.let_go(consumer)

    def _shift(self, row: int, resources: Mapping[str, int], sign: int) -> None:
        for name, amount in resources.items():
            column = self.classes[name]
            free = int(column.free[row]) + sign * amount
            column.free[row] = free
            column.most[row] = min(free, int(column.max_unit[row]))


def _longer(array: NDArray[Any], size: int) -> NDArray[Any]:
    grown = np.zeros((*array.shape[:-1], size), array.dtype)
    grown[..., : array.shape[-1]] = array
    return grown
