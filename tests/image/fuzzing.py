"""Requests of any shape for an HTTP face, of which none may be answered with a 5xx other than 501."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

NAMES = st.text(max_size=12) | st.sampled_from(
    ["\x00", "ü", "\U0001f600", "a" * 300, "%00", "%ff", "..", "null", "~1"]
)
SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | NAMES
    | st.sampled_from(["10.0.0.0/24", "fd00::/64", "10.0.0.3", "::1", "public", "true", "-1", "0"])
)  # fmt: skip


def values(*known: Any) -> st.SearchStrategy[Any]:
    """Any JSON; `known` values come up more often."""
    scalars = SCALARS | st.sampled_from(known) if known else SCALARS
    return st.recursive(
        scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=6
    )


def objects(names: list[str], *known: Any) -> st.SearchStrategy[dict[str, Any]]:
    """JSON objects that mostly have members of these names."""
    return st.dictionaries(st.sampled_from(names) | NAMES, values(*known), max_size=5)


def queries(names: list[str]) -> st.SearchStrategy[str]:
    """Query strings, some of them broken."""
    words = st.sampled_from(names) | st.text("abc%&=:,\x00ü0-", max_size=6)
    pairs = st.lists(st.tuples(words, words), max_size=3)
    return pairs.map(lambda found: "&".join(f"{a}={b}" for a, b in found))
