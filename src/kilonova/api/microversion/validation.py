"""Checking bodies against JSON schemas, and saying what is wrong in the words clients know.

The schema is compiled by jsonschema-rs; its errors are rebuilt from path and keyword into the sentences
of the Compute API ("Invalid input for field/attribute name. Value: 1. 1 is not of type 'string'").
Formats beyond JSON schema's own are this API's (see `FORMATS`).
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import itertools
import re
import unicodedata
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import jsonschema_rs

from kilonova.http.errors import BadRequest

Schema = Mapping[str, Any]
_SHOWN = 300


def _printable(text: str) -> bool:
    return all(unicodedata.category(c)[0] != "C" and (unicodedata.category(c)[0] != "Z" or c == " ") for c in text)


def _name(text: str) -> bool:
    return _printable(text) and text == text.strip() and bool(text)


def _loose_name(text: str) -> bool:
    return _printable(text) and bool(text.strip())


def _uuid(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True


def _base64(text: str) -> bool:
    try:
        base64.b64decode(text.encode(), validate=False)
    except (binascii.Error, ValueError):
        return False
    return True


def _address(version: int) -> Callable[[str], bool]:
    kind: Any = ipaddress.IPv4Address if version == 4 else ipaddress.IPv6Address

    def check(text: str) -> bool:
        try:
            kind(text)
        except ValueError:
            return False
        return True

    return check


def _moment(text: str) -> bool:
    return parse_time(text) is not None


def parse_time(text: str) -> int | None:
    """Microseconds UTC of an ISO 8601 time (no zone means UTC); None when it is none."""
    try:
        moment = datetime.fromisoformat(text.strip())
        if moment.tzinfo is None:
            moment = datetime.fromisoformat(text.strip() + "+00:00" if "T" in text or " " in text else text)
        micros = int(moment.timestamp() * 1_000_000) if moment.tzinfo else _utc(moment)
    except (ValueError, OverflowError, OSError):
        return None
    return micros if -(1 << 62) < micros < 1 << 62 else None


def _utc(moment: datetime) -> int:
    from datetime import UTC

    return int(moment.replace(tzinfo=UTC).timestamp() * 1_000_000)


def _at_least(lowest: int, highest: int) -> Callable[[str], bool]:
    """Numbers sent as texts keep the bounds of numbers."""

    def check(text: str) -> bool:
        try:
            return lowest <= int(text) <= highest
        except ValueError:
            return True  # the pattern says so

    return check


_MAX = 0x7FFFFFFF
FORMATS: dict[str, Callable[[str], bool]] = {
    "name": _name,
    "loose-name": _loose_name,
    "az-name": lambda text: _name(text) and ":" not in text,
    "uuid": _uuid,
    "base64": _base64,
    "ipv4": _address(4),
    "ipv6": _address(6),
    "date-time": _moment,
    "number>=0": _at_least(0, _MAX),
    "number>=1": _at_least(1, _MAX),
    "number>=-1": _at_least(-1, _MAX),
}
_INVALID_NAME = (
    "An invalid 'name' value was provided. The name must be: printable characters. "
    "Can not start or end with whitespace."
)
_INVALID_LOOSE = (
    "An invalid 'name' value was provided. The name must be: printable characters with at least one non space character"
)


class Validator:
    """One compiled schema."""

    def __init__(
        self, schema: Schema, *, relaxed: bool = False, query: bool = False, newer: Mapping[str, int] | None = None
    ) -> None:
        """`newer`: names refused here that a later version takes, for the message."""
        self._newer = dict(newer or {})
        self._query = query
        self._inner = jsonschema_rs.Draft202012Validator(
            _relax(schema) if relaxed else dict(schema), validate_formats=True, formats=FORMATS
        )

    def check(self, value: Any) -> None:
        """Raise BadRequest when `value` does not fit."""
        if self._inner.is_valid(value):
            return
        errors = list(itertools.islice(self._inner.iter_errors(value), 100))
        raise BadRequest(self._words(min(errors, key=_rank)))

    def _words(self, error: Any) -> str:
        kind = error.kind
        if kind.name == "format" and kind.format in ("name", "az-name"):
            return _INVALID_NAME
        if kind.name == "format" and kind.format == "loose-name":
            return _INVALID_LOOSE
        reason = _reason(error, self._newer)
        path = list(error.instance_path)
        if not path:
            return reason
        if self._query:
            return f"Invalid input for query parameters {path[0]}. Value: {_cut(str(error.instance))}. {reason}"
        return f"Invalid input for field/attribute {path[-1]}. Value: {_cut(str(error.instance))}. {reason}"


def _rank(error: Any) -> int:
    """What to tell first: wrong values, then what is missing, then what is too much."""
    return {"required": 1, "additionalProperties": 2}.get(error.kind.name, 0)


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


def _reason(error: Any, newer: Mapping[str, int]) -> str:
    kind, shown = error.kind, _cut(repr(error.instance))
    match kind.name:
        case "type":
            types = kind.value if isinstance(kind.value, list) else [kind.value]
            return f"{shown} is not of type {', '.join(repr(each) for each in types)}"
        case "required":
            return f"{kind.property!r} is a required property"
        case "additionalProperties":
            names = sorted(kind.unexpected)
            verb = "was" if len(names) == 1 else "were"
            text = f"Additional properties are not allowed ({_cut(', '.join(map(repr, names)))} {verb} unexpected)"
            later = [f"{name!r} from microversion 2.{newer[name]}" for name in names if name in newer]
            return f"{text}. Accepted later: {', '.join(later)}." if later else text
        case "enum":
            return f"{shown} is not one of {kind.options!r}"
        case "pattern":
            return f"{shown} does not match {kind.pattern!r}"
        case "maxLength" | "maxItems":
            return f"{shown} is too long"
        case "minLength" | "minItems":
            return f"{shown} should be non-empty" if kind.limit == 1 else f"{shown} is too short"
        case "minimum":
            return f"{shown} is less than the minimum of {kind.limit}"
        case "maximum":
            return f"{shown} is greater than the maximum of {kind.limit}"
        case "maxProperties":
            return f"{shown} has too many properties"
        case "minProperties":
            return f"{shown} should be non-empty" if kind.limit == 1 else f"{shown} does not have enough properties"
        case "uniqueItems":
            return f"{shown} has non-unique elements"
        case "oneOf" | "anyOf":
            return f"{shown} is not valid under any of the given schemas"
        case "format":
            bound = re.fullmatch(r"number>=(-?\d+)", kind.format)
            if bound:
                return _number_reason(error.instance, int(bound[1]), shown)
            return f"{shown} is not a {kind.format!r}"
    return f"{shown} is not valid"


def _number_reason(instance: str, lowest: int, shown: str) -> str:
    if int(instance) < lowest:
        return f"{shown} is less than the minimum of {lowest}"
    return f"{shown} is greater than the maximum of {_MAX}"


def _relax(schema: Any) -> Any:
    """The same schema with no word on unknown properties (patterns keep theirs)."""
    if isinstance(schema, Mapping):
        drop = not schema.get("patternProperties")
        return {key: _relax(value) for key, value in schema.items() if not (key == "additionalProperties" and drop)}
    if isinstance(schema, list | tuple):
        return [_relax(each) for each in schema]
    return schema
