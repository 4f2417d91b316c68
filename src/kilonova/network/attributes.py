"""Attributes of network resources as data: how each is checked, what it defaults to, who may set it.

A check takes (value, name) and returns the value in one form; it raises BadRequest. Source: Networking API v2.0.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kilonova.http.errors import BadRequest
from kilonova.model.credentials import Credentials
from kilonova.network.errors import bad, denied, invalid

Check = Callable[[Any, str], Any]
REQUIRED: Any = object()
UNSET: Any = object()
"""The default of what is worked out later."""
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\Z")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}\Z")


@dataclass(frozen=True, slots=True)
class Attribute:
    """One settable attribute."""

    check: Check
    default: Any = UNSET
    """Of a create; REQUIRED: it must be given."""
    put: bool = True
    """Whether an update may change it."""
    admin: bool = False
    """Whether only an admin may set it to something else than its default."""


def text(most: int = 255) -> Check:
    def check(value: Any, name: str) -> str:
        if not isinstance(value, str) or len(value) > most:
            raise invalid(f"{name} must be a string of at most {most} characters")
        return value

    return check


def flag(value: Any, name: str) -> int:
    """As Neutron reads booleans: true, "true", 1, "1" and their opposites."""
    if isinstance(value, str):
        value = {"true": True, "1": True, "false": False, "0": False}.get(value.lower(), value)
    if isinstance(value, int) and value in (0, 1):
        return int(value)
    raise invalid(f"'{str(value)[:50]}' cannot be converted to boolean in {name}")


def number(least: int, most: int, optional: bool = False) -> Check:
    def check(value: Any, name: str) -> int | None:
        if value is None and optional:
            return None
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 12:
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise invalid(f"{name} must be an integer from {least} to {most}")
        return value

    return check


def choice(*choices: Any) -> Check:
    def check(value: Any, name: str) -> Any:
        if isinstance(value, bool) or not isinstance(value, str | int | None) or value not in choices:
            raise invalid(f"'{str(value)[:50]}' is not in {list(choices)} in {name}")
        return value

    return check


def uuid(value: Any, name: str) -> str:
    if not isinstance(value, str) or not _UUID.match(value.lower()):
        raise invalid(f"'{str(value)[:50]}' is not a valid UUID in {name}")
    return value.lower()


def mac(value: Any, name: str) -> str:
    folded = value.lower().replace("-", ":") if isinstance(value, str) else ""
    if not _MAC.match(folded) or int(folded[:2], 16) & 1 or folded == "00:00:00:00:00:00":
        raise invalid(f"'{str(value)[:50]}' is not a valid MAC address in {name}")
    return folded


def ip(value: Any, name: str) -> str:
    try:
        if not isinstance(value, str):
            raise ValueError
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise invalid(f"'{str(value)[:50]}' is not a valid IP address in {name}") from None


def cidr(value: Any, name: str) -> str:
    """Without host bits, as Neutron keeps it."""
    try:
        if not isinstance(value, str):
            raise ValueError
        return str(ipaddress.ip_network(value, strict=False))
    except ValueError:
        raise invalid(f"'{str(value)[:50]}' is not a valid IP subnet in {name}") from None


def optional(inner: Check) -> Check:
    return lambda value, name: None if value is None else inner(value, name)


def several(inner: Check, most: int) -> Check:
    """A list without repetitions."""

    def check(value: Any, name: str) -> list[Any]:
        if not isinstance(value, list) or len(value) > most:
            raise invalid(f"{name} must be a list of at most {most} items")
        found: list[Any] = []
        for each in value:
            checked = inner(each, name)
            if checked in found:
                raise invalid(f"{name} holds the same item twice")
            found.append(checked)
        return found

    return check


def members(*, required: Mapping[str, Check] | None = None, free: Mapping[str, Check] | None = None) -> Check:
    """An object with these members only."""
    must, may = dict(required or {}), dict(free or {})

    def check(value: Any, name: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise invalid(f"{name} must hold objects")
        unknown = sorted(set(value) - set(must) - set(may))
        if unknown or not set(must) <= set(value):
            raise invalid(f"items of {name} have the keys {sorted(must) + sorted(may)}, not {sorted(value)[:10]}")
        return {key: (must.get(key) or may[key])(each, name) for key, each in value.items()}

    return check


def document(value: Any, name: str) -> dict[str, Any]:
    """A free JSON object of at most 4 kB."""
    if not isinstance(value, dict) or len(repr(value)) > 4096:
        raise invalid(f"{name} must be an object of at most 4 kB")
    return value


def checked(
    body: Any, attributes: Mapping[str, Attribute], read_only: frozenset[str], creds: Credentials, creating: bool
) -> dict[str, Any]:
    """A body's attributes in one form; creating adds the defaults. Raises BadRequest, Forbidden."""
    if not isinstance(body, dict):
        raise bad("The resource must be a JSON object.")
    given = dict(body)
    if "tenant_id" in given:
        tenant = given.pop("tenant_id")
        if given.setdefault("project_id", tenant) != tenant:
            raise bad("'project_id' and 'tenant_id' do not match.")
    method = "POST" if creating else "PUT"
    values: dict[str, Any] = {}
    for name, value in given.items():
        attribute = attributes.get(name)
        if attribute is None and name not in read_only:
            raise bad(f"Unrecognized attribute(s) '{name[:100]}'")
        if attribute is None or not (creating or attribute.put):
            raise bad(f"Attribute '{name}' not allowed in {method}")
        values[name] = found = attribute.check(value, name)
        if attribute.admin and not creds.is_admin and not (creating and found == attribute.default):
            raise denied(f"Setting {name}")
    if creating:
        for name, attribute in attributes.items():
            if name not in values:
                if attribute.default is REQUIRED:
                    raise bad(f"Failed to parse request. Required attribute '{name}' not specified")
                if attribute.default is not UNSET:
                    values[name] = attribute.default
    project = values.get("project_id")
    if project is not None and project != creds.project_id and not creds.is_admin:
        raise denied("Acting for another project")
    return values


__all__ = [
    "REQUIRED", "UNSET", "Attribute", "BadRequest", "Check", "checked", "choice", "cidr", "document", "flag", "ip",
    "mac", "members", "number", "optional", "several", "text", "uuid",
]  # fmt: skip
