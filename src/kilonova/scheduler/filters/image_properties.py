"""ImagePropertiesFilter: the host can run guests of the architecture, hypervisor and mode that the image names.

Hosts share a few distinct sets of supported instances: each set is judged once, then looked up by number.
The hypervisor's version is compared only beside one of the three, as Nova does.
"""

from __future__ import annotations

import re

from kilonova.model.scheduling import Request
from kilonova.scheduler.arrays import Bools, np
from kilonova.scheduler.columns import HostColumns
from kilonova.scheduler.filters.protocol import Note

_KEYS = (
    ("hw_architecture", "architecture"),
    ("img_hv_type", "hypervisor_type"),
    ("hw_vm_mode", "vm_mode"),
)
"""Property and its older name."""
_ARCHITECTURES = {
    "amd64": "x86_64", "x64": "x86_64", "i386": "i686", "i486": "i686", "i586": "i686", "arm64": "aarch64"
}  # fmt: skip
_HYPERVISORS = {"xapi": "xen"}
_MODES = {"pv": "xen", "hv": "hvm", "baremetal": "hvm"}
_CANONICAL = (_ARCHITECTURES, _HYPERVISORS, _MODES)
_PREDICATE = re.compile(r"\s*(<=|>=|==|!=|<|>|=)?\s*(\d+(?:\.\d+){0,3})\s*")


class ImagePropertiesFilter:
    name = "ImagePropertiesFilter"
    when_forced = False

    def __init__(self, default_architecture: str | None = None) -> None:
        """`default_architecture`: for images that name none (Nova's image_properties_default_architecture)."""
        self.default_architecture = default_architecture

    def narrow(self, columns: HostColumns, request: Request, passing: Bools, note: Note) -> None:
        wanted = self.wanted(request.image)
        if not any(wanted):
            return
        versions = request.image.get("img_hv_requested_version") or request.image.get("hypervisor_version_requires")
        fits = [supported(instances, version, wanted, versions) for instances, version in columns.supports]
        if not any(fits):
            passing[:] = False
        elif not all(fits):
            same = columns.scratch("mask", np.bool_)
            np.take(np.array(fits, np.bool_), columns.support[: columns.count], out=same, mode="clip")
            np.logical_and(passing, same, out=passing)
        note(", ".join(value for value in wanted if value))

    def wanted(self, image: dict[str, str]) -> tuple[str, str, str]:
        """(architecture, hypervisor type, vm mode) in canonical spelling; "" for any."""
        found: list[str] = []
        for keys, names in zip(_KEYS, _CANONICAL, strict=True):
            value = (image.get(keys[0]) or image.get(keys[1]) or "").strip().lower()
            found.append(names.get(value, value))
        return found[0] or (self.default_architecture or "").lower(), found[1], found[2]


def supported(
    instances: frozenset[tuple[str, str, str]], version: int, wanted: tuple[str, str, str], versions: str | None
) -> bool:
    """Whether a host with these supported instances and hypervisor version can run the image."""
    for instance in instances:
        if all(not want or want == have.lower() for want, have in zip(wanted, instance, strict=True)):
            return versions is None or version_fits(version, versions)
    return False


def version_fits(version: int, predicates: str) -> bool:
    """Whether `version` (major * 1,000,000 + minor * 1,000 + release) meets ``>=6.0, <7.2``; nonsense is never met."""
    for part in predicates.split(","):
        match = _PREDICATE.fullmatch(part)
        if match is None:
            return False
        numbers = [int(n) for n in match[2].split(".")][:3]
        asked = sum(n * scale for n, scale in zip(numbers, (1_000_000, 1_000, 1), strict=False))
        holds = {
            "<": version < asked,
            "<=": version <= asked,
            ">": version > asked,
            ">=": version >= asked,
            "!=": version != asked,
        }.get(match[1] or "==", version == asked)
        if not holds:
            return False
    return True
