"""Raw settings: what stands where, before it means anything.

Three sources make entries: a TOML file, an INI file in oslo.config's dialect (nova.conf), the environment.
A file's kind is recognised by its content, since operators name them as they like.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from kilonova.config.errors import ConfigError
from kilonova.config.settings import SECTIONS, attribute

ENV_PREFIX = "KILONOVA_"


class Entry(Struct, frozen=True):
    """One option as found. ``section`` is as in Settings, ``option`` has underscores, ``source`` is a place."""

    section: str
    option: str
    value: Any
    source: str


def read_file(path: Path) -> list[Entry]:
    """Return the entries of a file in order. Raises ConfigError (unreadable, or neither TOML nor INI)."""
    import tomllib

    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as fault:
        raise ConfigError(f"{path}: cannot be read as text: {fault}") from fault
    try:
        return list(_toml(path, text, tomllib.loads(text)))
    except tomllib.TOMLDecodeError as fault:
        if path.suffix == ".toml":
            line = re.search(r"at line (\d+)", str(fault))
            where = f"{path}:{line[1]}" if line else str(path)
            raise ConfigError(f"{where}: not TOML: {fault}") from fault
    return list(_ini(path, text))


def read_environment(env: Mapping[str, str]) -> list[Entry]:
    """Return the entries of ``KILONOVA_<SECTION>__<OPTION>`` variables.

    ``KILONOVA_<OPTION>`` sets [kilonova]; other variables with the prefix are not settings and left alone.
    """
    entries = []
    for name in sorted(env):
        if not name.startswith(ENV_PREFIX):
            continue
        section, split, option = name[len(ENV_PREFIX) :].lower().partition("__")
        if split:
            entries.append(Entry(section, option, env[name], name))
        elif section in SECTIONS["kilonova"].__struct_fields__:
            entries.append(Entry("kilonova", section, env[name], name))
    return entries


def _toml(path: Path, text: str, tree: dict[str, Any]) -> Iterator[Entry]:
    lines = text.splitlines()
    for section, content in tree.items():
        if isinstance(content, dict):
            for option, value in content.items():
                yield _entry(section, option, value, f"{path}:{_toml_line(lines, section, option)}")
        else:
            yield _entry("DEFAULT", section, content, f"{path}:{_toml_line(lines, '', section)}")


def _toml_line(lines: list[str], section: str, option: str) -> int:
    """Return the line an option stands on, or that of its section, or 1: tomllib keeps no places."""
    current, best = "", 1
    key = re.compile(rf"""\s*["']?{re.escape(option)}["']?\s*=""")
    for number, line in enumerate(lines, 1):
        header = re.match(r"""\s*\[["']?([^\]"']+)["']?\]""", line)
        if header:
            current = header[1].strip()
            best = number if current == section else best
        elif current == section and key.match(line):
            return number
    return best


def _ini(path: Path, text: str) -> Iterator[Entry]:
    section = ""
    option, value, at = "", [""], 0
    for number, line in enumerate([*text.splitlines(), "[end]"], 1):
        stripped = line.strip()
        if option and stripped and line[0].isspace():
            value.append(stripped)
            continue
        if option:
            yield _entry(section, option, _unquote("\n".join(value).strip()), f"{path}:{at}")
            option = ""
        if not stripped or stripped[0] in "#;":
            continue
        where = f"{path}:{number}"
        if stripped[0] == "[":
            if stripped[-1] != "]" or len(stripped) < 3:
                raise ConfigError(f"{where}: section header is not closed; write [name]")
            section = stripped[1:-1].strip()
            continue
        found = re.match(r"([^=:]+?)\s*[=:](.*)", stripped)
        if found is None:
            raise ConfigError(f"{where}: {stripped[:40]!r} is neither [section] nor option = value")
        if not section:
            raise ConfigError(f"{where}: option {found[1]!r} stands before any section; put [DEFAULT] above it")
        option, value, at = found[1], [found[2].strip()], number


def _entry(section: str, option: str, value: Any, source: str) -> Entry:
    return Entry(attribute(section), option.replace("-", "_"), value, source)


def _unquote(text: str) -> str:
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" else text
