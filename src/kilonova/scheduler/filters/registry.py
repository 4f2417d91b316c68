"""Filters by the names operators write in `enabled_filters`; third parties add theirs by entry point.

Group `kilonova.filters`: a class without arguments that is a `Filter` or a `HostFilter`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from kilonova.scheduler.filters.capacity import CapacityFilter
from kilonova.scheduler.filters.compute_up import ComputeFilter
from kilonova.scheduler.filters.debts import DebtFilter
from kilonova.scheduler.filters.image_properties import ImagePropertiesFilter
from kilonova.scheduler.filters.per_host import PerHost
from kilonova.scheduler.filters.protocol import Filter
from kilonova.scheduler.filters.requested_host import RequestedHostFilter
from kilonova.scheduler.filters.traits import TraitsFilter
from kilonova.scheduler.filters.zone import AvailabilityZoneFilter

ENTRY_POINTS = "kilonova.filters"
BUILT_IN: dict[str, Callable[[], Filter]] = {
    cls.name: cls
    for cls in (
        RequestedHostFilter, DebtFilter, ComputeFilter, AvailabilityZoneFilter, ImagePropertiesFilter, TraitsFilter,
        CapacityFilter,
    )
}  # fmt: skip
ALWAYS_FIRST = ("RequestedHostFilter", "DebtFilter")
ALWAYS_LAST = ("AvailabilityZoneFilter", "TraitsFilter", "CapacityFilter")
"""What Nova asks Placement for; there it cannot be switched off either."""
DEFAULT = ("ComputeFilter", "ImagePropertiesFilter")


class UnknownFilter(ValueError):
    """A configured name that nothing answers to."""


def build(names: Sequence[str] = DEFAULT) -> tuple[Filter, ...]:
    """The filters to run, in order, for configured `names`. Raises UnknownFilter."""
    order = [*ALWAYS_FIRST, *(n for n in names if n not in ALWAYS_FIRST + ALWAYS_LAST and n != "AllHostsFilter")]
    return tuple(_make(name) for name in [*order, *ALWAYS_LAST])


def _make(name: str) -> Filter:
    if name in BUILT_IN:
        return BUILT_IN[name]()
    from importlib.metadata import entry_points

    for point in entry_points(group=ENTRY_POINTS):
        if point.name == name:
            made: Any = point.load()()
            return made if hasattr(made, "narrow") else PerHost(made)
    raise UnknownFilter(f"no scheduler filter is named {name}; there are {', '.join(sorted(BUILT_IN))}")
