"""The test suites, in the order in which they run: what each one collects, and what it needs installed.

What always holds: the suites split the tests by their markers, so every test belongs to exactly one of them;
a folder of tests/ can also be named by itself. A soak runs tests of a suite for longer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kilonova.cli import os_packages
from kilonova.cli.os_packages import Need

REAL = ("libvirt", "uml", "postgres")


@dataclass(frozen=True)
class Suite:
    """`words` select its tests for pytest; `needs` come from the operating system; `binding`: libvirt's;
    `environment`: variables that make its tests longer than they usually are."""

    words: tuple[str, ...]
    needs: Callable[[], tuple[Need, ...]] = tuple
    binding: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)


def _nothing_but(marker: str) -> tuple[str, ...]:
    # A test with two of the markers belongs to the first: it runs once, where the other's needs came before.
    others = "".join(f" and not {name}" for name in REAL[: REAL.index(marker)])
    return ("-m", marker + others)


def unit_needs() -> tuple[Need, ...]:
    """Small programs that tests without guests and servers use."""
    return (
        os_packages.by_programs("disk images", ("qemu-utils",), ("qemu-img",)),
        os_packages.by_programs("network namespaces", ("iproute2",), ("ip",)),
    )


def uml_needs() -> tuple[Need, ...]:
    """User-Mode Linux: a kernel that is a program, and the tool that talks to it."""
    return (os_packages.by_programs("User-Mode Linux", ("user-mode-linux", "uml-utilities"), ("linux.uml",)),)


SUITES = {
    "unit": Suite(("-m", f"not ({' or '.join(REAL)})", "--ignore=tests/neighbours"), unit_needs),
    "postgres": Suite(_nothing_but("postgres"), lambda: (os_packages.postgresql(),)),
    "uml": Suite(_nothing_but("uml"), uml_needs),
    "libvirt": Suite(_nothing_but("libvirt"), os_packages.guests, binding=True),
    "neighbours-smoke": Suite(("tests/neighbours/test_neighbours_real.py", "-k", "users_walk or glance_goes")),
}
# Only when asked for by name: they take long.
SOAKS = {
    "neighbours": Suite(("tests/neighbours", "-m", f"not ({' or '.join(REAL)})")),
    "chaos": Suite(("tests/cloud/test_cloud_chaos.py",), os_packages.guests, True, {"KILONOVA_CHAOS": "full"}),
}


def find(root: Path, name: str) -> Suite | None:
    """Return the suite called `name`, or the one of a folder tests/`name`."""
    if known := {**SUITES, **SOAKS}.get(name):
        return known
    return Suite((f"tests/{name}",), unit_needs) if (root / "tests" / name).is_dir() else None
