"""What a filter is: it narrows the mask of hosts that pass, and says after each condition what it looked at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from kilonova.model.scheduling import Request
from kilonova.scheduler.arrays import Bools
from kilonova.scheduler.columns import HostColumns

Note = Callable[[str], bool]
"""``note("VCPU")`` counts what is left after a condition; False when that is nothing: then return at once."""


class Filter(Protocol):
    """One filter. It never adds hosts and keeps nothing between calls."""

    name: str
    """Nova's name."""
    when_forced: bool
    """Whether it also runs for a forced host."""

    def narrow(self, columns: HostColumns, request: Request, passing: Bools, note: Note) -> None:
        """Clear the hosts that do not pass in `passing` (one item a row). No `note`: it had nothing to say."""


class HostFilter(Protocol):
    """A filter written for one host at a time (plug-ins); slower, and asked only about hosts that pass so far."""

    name: str

    def passes(self, host: HostView, request: Request) -> bool: ...


class HostView:
    """One host, for filters and weighers written one host at a time."""

    __slots__ = ("_columns", "_row")

    def __init__(self, columns: HostColumns, row: int) -> None:
        self._columns, self._row = columns, row

    def __repr__(self) -> str:
        return f"<HostView {self.host}/{self.node}>"

    @property
    def uuid(self) -> str:
        return self._columns.uuid[self._row]

    @property
    def host(self) -> str:
        return self._columns.host[self._row]

    @property
    def node(self) -> str:
        return self._columns.node[self._row]

    @property
    def zone(self) -> str:
        return self._columns.zones.texts[int(self._columns.zone[self._row])]

    @property
    def instances(self) -> int:
        """How many consumers hold something here."""
        return int(self._columns.instances[self._row])

    def free(self, resource_class: str) -> int:
        """What may still be claimed, allocation ratio and reserve counted in."""
        column = self._columns.classes.get(resource_class)
        return int(column.free[self._row]) if column else 0

    def capacity(self, resource_class: str) -> int:
        column = self._columns.classes.get(resource_class)
        return int(column.capacity[self._row]) if column else 0

    def has_trait(self, name: str) -> bool:
        return self._columns.has_trait(self._row, name)

    def aggregate_metadata(self, key: str) -> set[str]:
        """The values of `key` over the host's aggregates."""
        columns = self._columns
        found = (columns.aggregates[uuid].metadata.get(key) for uuid in columns.aggregates_of.get(self.host, ()))
        return {value for value in found if value is not None}
