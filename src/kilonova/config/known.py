"""Which names Nova (and the libraries it uses) gives options, so that a typing error is told from a fact.

``nova_options.json``: names by section, releases up to 34 and well-known removed ones, and old names with
what they are called now. Read only when a file holds something that is not ours.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import msgspec

from kilonova.config.settings import SECTIONS, attribute, shown


class _Data(msgspec.Struct, frozen=True):
    options: dict[str, str]
    renamed: dict[str, str]


class KnownOptions:
    """Answers about option names; sections as in Settings, options with underscores."""

    @cached_property
    def _data(self) -> _Data:
        raw = Path(__file__).with_name("nova_options.json").read_bytes()
        return msgspec.json.decode(raw, type=_Data)

    @cached_property
    def _names(self) -> dict[str, frozenset[str]]:
        return {attribute(section): frozenset(names.split()) for section, names in self._data.options.items()}

    def is_nova(self, section: str, option: str) -> bool:
        """Tell whether Nova knows, or knew, this option."""
        return option in self._names.get(section, ())

    def current_name(self, section: str, option: str) -> tuple[str, str]:
        """Return where an option lives now, itself if it was never renamed."""
        new = self._data.renamed.get(f"{shown(section)}/{option}")
        if new is None:
            return section, option
        section, _, option = new.partition("/")
        return attribute(section), option

    def close_to(self, section: str, option: str) -> str | None:
        """Return a name that a wrong one was probably meant to be, or None."""
        from difflib import get_close_matches

        names = set(self._names.get(section, ()))
        if section in SECTIONS:
            names |= set(SECTIONS[section].__struct_fields__)
        found = get_close_matches(option, sorted(names), 1, 0.8)
        if found:
            return f"[{shown(section)}] {found[0]}"
        homes = sorted(s for s, kind in SECTIONS.items() if option in kind.__struct_fields__)
        return f"[{shown(homes[0])}] {option}" if len(homes) == 1 else None
