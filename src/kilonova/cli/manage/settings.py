"""`manage config show`: what counts, and where it was said."""

from __future__ import annotations

import argparse
from typing import Any

from kilonova.cli.manage.table import add_json, show


def add(commands: Any, base: argparse.ArgumentParser) -> None:
    group = commands.add_parser("config", help="settings: what counts and where it was said")
    parts = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    shown = parts.add_parser(
        "show", parents=[base], help="settings with their sources; secrets are stars",
        description="Show the settings that were said somewhere, with file and line; warnings about unknown "
        "options go to stderr. Exit code 1 when a value is wrong.",
    )  # fmt: skip
    shown.add_argument("--all", action="store_true", help="also what has its default value")
    add_json(shown)
    shown.set_defaults(act=_show)


def _show(args: argparse.Namespace) -> int:
    import sys

    from kilonova.cli.manage.opened import settings_of

    settings = settings_of(args)
    rows = [
        (f"[{each.section}] {each.option}", each.value, each.source)
        for each in settings.explain()
        if args.all or each.source != "default"
    ]
    show(args, ("option", "value", "source"), rows)
    for line in settings.warnings:
        print(line, file=sys.stderr)
    return 0
