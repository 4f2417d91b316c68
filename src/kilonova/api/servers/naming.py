"""Names and addresses in the form they are kept in."""

from __future__ import annotations

import ipaddress
import re

_SEPARATORS = re.compile(r"[ _.]+")
_STRANGE = re.compile(r"[^a-z0-9-]+")


def host_name(display_name: str, uuid: str) -> str:
    """A host name (at most 63 of a-z, 0-9 and -) from a display name; ``server-<uuid>`` if nothing is left."""
    name = _SEPARATORS.sub("-", display_name.lower())
    name = _STRANGE.sub("", name).strip("-")[:63].rstrip("-")
    return name or f"server-{uuid}"[:63]


def numbered(name: str, index: int, count: int, most: int = 255) -> str:
    """``name-3`` for the third of several; the name itself for one alone."""
    if count == 1:
        return name
    suffix = f"-{index + 1}"
    return name[: most - len(suffix)] + suffix


def address(text: str) -> str:
    """An address in its shortest spelling; the empty text stays."""
    return str(ipaddress.ip_address(text)) if text else ""
