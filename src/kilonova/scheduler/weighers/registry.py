"""Weighers by Nova's names, with the multipliers of `[filter_scheduler]`; third parties add theirs by entry point.

Group `kilonova.weighers`: a class without arguments that is a `Weigher` or a `HostWeigher`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kilonova.scheduler.weighers.free import FreeWeigher
from kilonova.scheduler.weighers.instances import NumInstancesWeigher
from kilonova.scheduler.weighers.per_host import PerHost
from kilonova.scheduler.weighers.protocol import Weigher

ENTRY_POINTS = "kilonova.weighers"
BUILT_IN: dict[str, tuple[str, float, Callable[[float], Weigher]]] = {
    "RAMWeigher": ("ram_weight_multiplier", 1.0, lambda m: FreeWeigher("RAMWeigher", "MEMORY_MB", m)),
    "CPUWeigher": ("cpu_weight_multiplier", 1.0, lambda m: FreeWeigher("CPUWeigher", "VCPU", m)),
    "DiskWeigher": ("disk_weight_multiplier", 1.0, lambda m: FreeWeigher("DiskWeigher", "DISK_GB", m)),
    "NumInstancesWeigher": ("num_instances_weight_multiplier", 0.0, NumInstancesWeigher),
}
"""Name -> (Nova's option, its default, maker)."""


class UnknownWeigher(ValueError):
    """A configured name that nothing answers to."""


def build(names: Sequence[str] | None = None, multipliers: Mapping[str, float] | None = None) -> tuple[Weigher, ...]:
    """The weighers to run (None = all built-in ones); those with multiplier 0 are left out. Raises UnknownWeigher."""
    made = (_make(name, multipliers or {}) for name in (BUILT_IN if names is None else names))
    return tuple(weigher for weigher in made if weigher.multiplier)


def _make(name: str, multipliers: Mapping[str, float]) -> Weigher:
    if name in BUILT_IN:
        option, default, maker = BUILT_IN[name]
        return maker(multipliers.get(option, default))
    from importlib.metadata import entry_points

    for point in entry_points(group=ENTRY_POINTS):
        if point.name == name:
            made: Any = point.load()()
            return made if hasattr(made, "weigh") else PerHost(made)
    raise UnknownWeigher(f"no scheduler weigher is named {name}; there are {', '.join(sorted(BUILT_IN))}")
