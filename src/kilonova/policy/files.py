"""Reading an operator's ``policy.yaml`` (or ``.json``), and the directory beside it.

YAML is imported only when there is a file that needs it, never on a start without overrides.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from kilonova.policy.errors import PolicyFileError
from kilonova.policy.parser import RuleText


class Override(msgspec.Struct, frozen=True):
    """A rule as an operator wrote it, and the file it stands in."""

    text: RuleText
    origin: str


def read_overrides(paths: Iterable[Path | str]) -> dict[str, Override]:
    """Return the rules of all files, later files winning; directories are read in name order.

    Raises PolicyFileError naming the file (and line, where the parser tells).
    """
    found: dict[str, Override] = {}
    for path in _files(paths):
        for name, text in _parse(path).items():
            found[name] = Override(_text(path, name, text), str(path))
    return found


def _files(paths: Iterable[Path | str]) -> Iterable[Path]:
    for path in map(Path, paths):
        if path.is_dir():
            yield from sorted(p for p in path.iterdir() if p.is_file() and not p.name.startswith("."))
        elif path.exists():
            yield path


def _parse(path: Path) -> dict[str, Any]:
    try:
        raw = path.read_text("utf-8")
        parsed = msgspec.json.decode(raw) if raw.lstrip().startswith("{") else _yaml(raw)
    except (OSError, ValueError) as fault:
        raise PolicyFileError(f"{path}: not a readable policy file: {fault}") from fault
    if parsed is None:
        return {}
    if not isinstance(parsed, dict):
        raise PolicyFileError(f"{path}: a policy file is a mapping of rule names to checks")
    return parsed


def _yaml(raw: str) -> Any:
    import yaml

    try:
        return yaml.safe_load(raw)
    except yaml.YAMLError as fault:
        raise ValueError(str(fault)) from fault


def _text(path: Path, name: object, text: object) -> RuleText:
    if not isinstance(name, str):
        raise PolicyFileError(f"{path}: rule name {name!r} is not a text")
    if isinstance(text, str):
        return text
    if isinstance(text, Sequence) and all(
        isinstance(row, str) or (isinstance(row, list) and all(isinstance(word, str) for word in row)) for row in text
    ):
        return text
    # An unquoted ! is a YAML tag and reads as null; null must never come to mean "everybody".
    raise PolicyFileError(f'{path}: rule {name!r} has no text; write "!" (with quotes) for nobody, "@" for all')
