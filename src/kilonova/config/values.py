"""From text to typed values, with an error that says what would have been right."""

from __future__ import annotations

import types
from typing import Any, Literal, Union, get_args, get_origin

import msgspec

from kilonova.config.secret import Secret
from kilonova.config.urls import DatabaseUrl, TransportUrl

_TRUE = frozenset(("true", "yes", "on", "1", "t", "y"))
_FALSE = frozenset(("false", "no", "off", "0", "f", "n"))


class ValueFault(ValueError):
    """The value does not fit; the text says what does."""


def convert(raw: Any, kind: Any) -> Any:
    """Return ``raw`` (text, or TOML's own types) as ``kind``. Raises ValueFault."""
    bare = _bare(kind)
    if isinstance(raw, str):
        raw = raw.strip()
        if _optional(kind) and raw in ("", "<None>"):
            return None
    try:
        if bare is Secret:
            return Secret(_need_text(raw))
        if bare in (DatabaseUrl, TransportUrl):
            return bare.parse(_need_text(raw))
        if bare is bool:
            return _flag(raw)
        if get_origin(bare) is tuple and isinstance(raw, str):
            raw = [part for part in (piece.strip() for piece in raw.replace("\n", ",").split(",")) if part]
        if bare is str and not isinstance(raw, str):
            raise ValueFault("needs a text (in quotes)")
        return msgspec.convert(raw, kind, strict=not isinstance(raw, str))
    except msgspec.ValidationError:
        raise ValueFault(_wanted(kind)) from None
    except ValueFault:
        raise
    except ValueError as fault:
        raise ValueFault(str(fault)) from None


def secretive(kind: Any) -> bool:
    """Tell whether values of this type must not be repeated in messages."""
    return _bare(kind) in (Secret, DatabaseUrl, TransportUrl)


def _bare(kind: Any) -> Any:
    """Return the type without ``| None`` and limits."""
    if get_origin(kind) in (Union, types.UnionType):
        kind = next(arg for arg in get_args(kind) if arg is not type(None))
    return get_args(kind)[0] if hasattr(kind, "__metadata__") else kind


def _optional(kind: Any) -> bool:
    return get_origin(kind) in (Union, types.UnionType) and type(None) in get_args(kind)


def _need_text(raw: Any) -> str:
    if not isinstance(raw, str):
        raise ValueFault("needs a text (in quotes)")
    return raw


def _flag(raw: Any) -> bool:
    if isinstance(raw, bool):
        return raw
    word = str(raw).lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueFault("needs true or false")


def _wanted(kind: Any) -> str:
    bare = _bare(kind)
    if get_origin(bare) is Literal:
        return "needs one of " + ", ".join(str(choice) or "(empty)" for choice in get_args(bare))
    if get_origin(bare) is tuple:
        return "needs a list: a, b, c"
    name = {int: "a whole number", float: "a number"}.get(bare, "a text")
    return f"needs {name}{_limits(kind)}"


def _limits(kind: Any) -> str:
    if get_origin(kind) in (Union, types.UnionType):
        kind = next(arg for arg in get_args(kind) if arg is not type(None))
    for meta in getattr(kind, "__metadata__", ()):
        if meta.ge is not None and meta.le is not None:
            return f" from {meta.ge} to {meta.le}"
        if meta.ge is not None:
            return f" of at least {meta.ge}"
    return ""
