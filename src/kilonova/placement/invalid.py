"""Words for a body that does not fit: those of JSON Schema, which clients of Placement know.

Bodies are declared as types and checked by msgspec; only when that fails is the schema of the type made,
and the reason put into words by a JSON Schema validator.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec


@cache
def _validator(kind: Any) -> Any:
    import jsonschema_rs

    return jsonschema_rs.validator_for(msgspec.json.schema(kind), validate_formats=True)


def reason(value: Any, kind: Any, fallback: str) -> str:
    """Why `value` does not fit `kind`; `fallback` when JSON Schema has no objection."""
    errors = sorted(_validator(kind).iter_errors(value), key=_rank)
    if not errors:
        return f"JSON does not validate: {fallback}"
    error = errors[0]
    path = [str(part) for part in error.schema_path]
    message = str(error.message).replace('"', "'")
    if "propertyNames" in path:
        message = f"{message} (does not match any of the regexes)"
    if path[-1] == "minProperties":
        message = f"{message} (does not have enough properties)"
    place = "".join(f"['{part}']" for part in (path[2:-1] if path[0] == "$defs" else path[:-1]))
    return f"JSON does not validate: {message}\n\nFailed validating '{path[-1]}' in schema{place}"


def _rank(error: Any) -> tuple[int, int]:
    """The outermost error first; a format says more than the pattern behind it."""
    return len(error.instance_path), 0 if str(error.schema_path[-1]) == "format" else 1
