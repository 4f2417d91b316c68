"""Defaults, then files in order, then the environment, then what the command line said: the last one wins.

All problems are collected and raised as one ConfigError, so that an operator repairs a file once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import fields

from kilonova.config.entries import Entry, read_environment, read_file
from kilonova.config.errors import ConfigError
from kilonova.config.known import KnownOptions
from kilonova.config.settings import SECTIONS, Settings, attribute, shown
from kilonova.config.values import ValueFault, convert, secretive

_REFERENCE = re.compile(r"\$\$|\$\{(?P<braced>[\w.]+)\}|\$(?P<plain>\w+(?:\.\w+)?)")


def load(
    paths: Iterable[Path | str] = (),
    env: Mapping[str, str] | None = None,
    overrides: Mapping[str, object] | None = None,
) -> Settings:
    """Return the settings of these sources.

    ``paths``: files (TOML or nova.conf, by content) or directories of ``*.toml`` and ``*.conf``; later ones
    win and all must exist. ``env``: usually os.environ; None reads none. ``overrides``: ``"section.option"``
    to a value, a bare ``option`` being one of [kilonova]. Raises ConfigError.
    """
    entries = [entry for path in _files(paths) for entry in read_file(path)]
    entries += read_environment(env or {})
    for name, value in (overrides or {}).items():
        section, _, option = name.rpartition(".")
        entries.append(Entry(attribute(section or "kilonova"), option, value, "override"))
    if not entries:
        return Settings()
    return _Builder(entries).build()


def _files(paths: Iterable[Path | str]) -> Iterable[Path]:
    for path in map(Path, paths):
        if path.is_dir():
            yield from sorted(p for p in path.iterdir() if p.suffix in (".toml", ".conf"))
        elif path.exists():
            yield path
        else:
            raise ConfigError(f"{path}: no such file; check --config")


class _ReferenceFault(ValueFault):
    """``$name`` leads nowhere."""


class _Builder:
    def __init__(self, entries: list[Entry]) -> None:
        self._known = KnownOptions()
        self._entries = {(entry.section, entry.option): entry for entry in map(self._renamed, entries)}
        self._raw = {key: entry.value for key, entry in self._entries.items()}
        self._problems: list[str] = []
        self._warnings: list[str] = []
        self._meaningless: list[str] = []

    def build(self) -> Settings:
        values: dict[str, dict[str, Any]] = {}
        kinds: dict[str, dict[str, Any]] = {}
        for (section, option), entry in self._entries.items():
            if section in SECTIONS and section not in kinds:
                kinds[section] = {info.name: info.type for info in fields(SECTIONS[section])}
            if option in kinds.get(section, ()):
                self._take(entry, kinds[section][option], values.setdefault(section, {}))
            else:
                self._untaken(entry)
        if self._problems:
            raise ConfigError(self._problems)
        if self._meaningless:
            names = ", ".join(sorted(self._meaningless))
            self._warnings.append(f"{len(self._meaningless)} Nova options have no meaning here: {names}")
        sections: dict[str, Any] = {name: SECTIONS[name](**given) for name, given in values.items()}
        sources = {(s, o): self._entries[s, o].source for s, given in values.items() for o in given}
        settings = Settings(**sections, sources=sources, warnings=tuple(self._warnings))
        return _carry_logging(settings)

    def _renamed(self, entry: Entry) -> Entry:
        if entry.section in SECTIONS and entry.option in SECTIONS[entry.section].__struct_fields__:
            return entry
        section, option = self._known.current_name(entry.section, entry.option)
        return msgspec.structs.replace(entry, section=section, option=option)

    def _take(self, entry: Entry, kind: Any, given: dict[str, Any]) -> None:
        name = f"{entry.source}: [{shown(entry.section)}] {entry.option}"
        try:
            raw = self._filled(entry.value) if isinstance(entry.value, str) else entry.value
            given[entry.option] = convert(raw, kind)
        except _ReferenceFault as fault:
            # What looks like a reference may be part of a password.
            which = "a name that is not set; write $$ for a dollar sign" if secretive(kind) else str(fault)
            self._problems.append(f"{name}: refers to {which}")
        except ValueFault as fault:
            value = "" if secretive(kind) else f" = {str(entry.value)[:60]!r}"
            self._problems.append(f"{name}{value}: {fault}")

    def _untaken(self, entry: Entry) -> None:
        name = f"[{shown(entry.section)}] {entry.option}"
        if self._known.is_nova(entry.section, entry.option):
            self._meaningless.append(name)
            return
        close = self._known.close_to(entry.section, entry.option)
        hint = f"; did you mean {close}?" if close else ""
        self._warnings.append(f"{entry.source}: {name} is unknown and ignored{hint}")

    def _filled(self, text: str, depth: int = 0) -> str:
        """Replace ``$option``, ``${section.option}`` and ``$$`` as oslo.config does."""
        if "$" not in text:
            return text
        if depth > 8:
            raise _ReferenceFault("itself")

        def one(found: re.Match[str]) -> str:
            if found[0] == "$$":
                return "$"
            name = found["braced"] or found["plain"]
            section, _, option = name.rpartition(".")
            return self._filled(self._value_of(attribute(section or "DEFAULT"), option, found[0]), depth + 1)

        return _REFERENCE.sub(one, text)

    def _value_of(self, section: str, option: str, reference: str) -> str:
        if (section, option) in self._raw:
            return str(self._raw[section, option])
        kind = SECTIONS.get(section)
        default = getattr(kind(), option, None) if kind else None
        if default is None and (section, option) == ("default", "my_ip"):
            from kilonova.config.address import own_address

            default = own_address()
        if default is None:
            raise _ReferenceFault(f"{reference}, which is not set; set it or write $$ for a dollar sign")
        return str(default)


def _carry_logging(settings: Settings) -> Settings:
    """Let [DEFAULT]'s logging options count where [log] says nothing."""
    default, sources = settings.default, dict(settings.sources)
    changes: dict[str, Any] = {}

    def carry(given: object, option: str, target: str, value: object) -> None:
        if given and ("log", target) not in sources:
            changes[target] = value
            sources["log", target] = settings.source("DEFAULT", option)

    carry(default.debug, "debug", "level", "debug")
    carry(default.use_json, "use_json", "json", True)
    carry(default.log_file, "log_file", "file", str(Path(default.log_dir or "", default.log_file or "")))
    if not changes:
        return settings
    log = msgspec.structs.replace(settings.log, **changes)
    return msgspec.structs.replace(settings, log=log, sources=sources)
