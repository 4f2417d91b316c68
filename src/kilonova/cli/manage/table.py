"""Rows for people: columns as wide as they must be; JSON for programs."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="for programs")


def show(args: argparse.Namespace, names: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print `rows` under `names`, or as a list of objects with --json."""
    if getattr(args, "json", False):
        print(json.dumps([dict(zip(names, row, strict=True)) for row in rows], indent=1, default=str))
        return
    texts = [[name.upper() for name in names], *[["" if v is None else str(v) for v in row] for row in rows]]
    widths = [max(len(line[n]) for line in texts) for n in range(len(names))]
    for line in texts:
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())
