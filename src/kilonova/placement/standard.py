"""The names every Placement knows without being told, and the rule for custom ones.

Source: os-traits 3.9, os-resource-classes 1.1."""

from __future__ import annotations

import json
import re
from functools import cache
from importlib.resources import files

CUSTOM = re.compile(r"CUSTOM_[A-Z0-9_]+")
"""A custom resource class or trait."""
LONGEST = 191
"""Characters of a name: what every database can index (Placement takes 255)."""


@cache
def _names() -> dict[str, list[str]]:
    found: dict[str, list[str]] = json.loads(files(__package__).joinpath("standard_names.json").read_bytes())
    return found


@cache
def resource_classes() -> tuple[str, ...]:
    """In the order of their definition."""
    return tuple(_names()["resource_classes"])


@cache
def traits() -> frozenset[str]:
    return frozenset(_names()["traits"])
