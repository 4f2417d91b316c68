"""What an operator does to a cloud from outside: tables, accounts, keys of the queue, cells, hosts, debts, audits.

Works on the settings of -c FILE, or on the cloud in --dir DIR that `kilonova up` made. Exit codes: 0 done and all is
well, 1 refused or something is not well (it says what), 2 wrong usage.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from kilonova.cli.manage import accounts, cells, journal, queue, settings, tables

PARTS = (tables, cells, queue, accounts, settings, journal)


def common() -> argparse.ArgumentParser:
    """Options that every sub-command takes, before or after its name."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument(
        "-c", "--config", type=Path, action="append", default=argparse.SUPPRESS, metavar="FILE",
        help="settings; several are read in order (default: /etc/kilonova and the environment)",
    )  # fmt: skip
    parser.add_argument(
        "--dir", type=lambda text: Path(text).absolute(), default=argparse.SUPPRESS,
        help="where the cloud lives (default: [kilonova] dir, else where `up` puts it)",
    )  # fmt: skip
    return parser


def add_arguments(parser: argparse.ArgumentParser) -> None:
    base = common()
    for action in base._actions:
        parser._add_action(action)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for part in PARTS:
        part.add(commands, base)


def run(args: argparse.Namespace) -> int:
    from kilonova.db.errors import DatabaseError

    try:
        return int(args.act(args))
    except DatabaseError as error:
        from kilonova.cli.errors import CliError

        raise CliError(f"the database: {error}") from None
