"""`manage upgrade check`, `audit`, `debts`: whether anything is stuck, leaked or owed."""

from __future__ import annotations

import argparse
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kilonova.cli.errors import CliError
from kilonova.cli.manage.table import add_json, show

if TYPE_CHECKING:
    from kilonova.conductor.audit import Finding
    from kilonova.config.settings import Settings
    from kilonova.db.database import Tx
    from kilonova.db.open import Databases

_AUDIT = """Compare the records with each other, with the network service and, where it can be looked at from here, with
the hosts. A cloud at work has differences for a moment: what is still there in a second look after --patience
counts. Exit code 1 when something is found."""


def add(commands: Any, base: argparse.ArgumentParser) -> None:
    group = commands.add_parser("upgrade", help="before the code of the services is replaced")
    parts = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    check = parts.add_parser(
        "check", parents=[base], help="exit code 1 while operations are open that this code cannot continue"
    )
    check.set_defaults(act=_upgrade)

    audit = commands.add_parser("audit", parents=[base], help="look for what is stuck, leaked or double-booked",
                                description=_AUDIT)  # fmt: skip
    audit.add_argument("--sim-world", type=Path, metavar="FILE", help="sim hosts (default: DIR/sim/world.db)")
    audit.add_argument("--patience", type=float, default=3.0, metavar="S", help="between two looks (default: 3)")
    add_json(audit)
    audit.set_defaults(act=_audit)

    debts = commands.add_parser("debts", help="what could not be undone and is still owed")
    parts = debts.add_subparsers(title="commands", metavar="COMMAND", required=True)
    listed = parts.add_parser("list", parents=[base], help="open debts with their holders")
    add_json(listed)
    listed.set_defaults(act=_debts)
    off = parts.add_parser(
        "write-off", parents=[base], help="give one up, on record",
        description="Nobody will try to pay this debt any more: what it names stays where it is until it is "
        "removed by hand.",
    )  # fmt: skip
    off.add_argument("id", metavar="ID")
    off.add_argument("--reason", required=True)
    off.set_defaults(act=_write_off)


def _upgrade(args: argparse.Namespace) -> int:
    from kilonova.cli.manage.opened import on_databases
    from kilonova.conductor import operations as _stories  # noqa: F401  # registers every story
    from kilonova.conductor.story import STORIES
    from kilonova.db.queries import operator as sql

    async def work(databases: Databases, settings: Settings) -> list[tuple[str, str, int, int]]:
        return [
            (database.name, *row)
            for database in databases.all()
            for row in await database.scan(sql.OPEN_STORIES, {}, list)
        ]

    found = on_databases(args, work)
    unknown = [row for row in found if (row[1], row[2]) not in STORIES]
    for name, story, version, count in unknown:
        print(f"{name}: {count} open operations of {story} version {version}, which this code does not have")
    if unknown:
        print("Let a conductor of the release that has them finish them first.")
        return 1
    print(f"{sum(row[3] for row in found)} operations are open; this code continues all of them")
    return 0


def _audit(args: argparse.Namespace) -> int:
    from kilonova.cli.compose.connect import folder_of
    from kilonova.cli.manage.look import audit
    from kilonova.cli.manage.opened import on_databases, settings_of

    path = args.sim_world or folder_of(settings_of(args)) / "sim" / "world.db"
    if args.sim_world is not None and not path.exists():
        raise CliError(f"{path}: there is no sim world")

    async def work(databases: Databases, settings: Settings) -> list[Finding]:
        import asyncio

        first = await audit(databases, path if path.exists() else None)
        if not first or not args.patience:
            return first
        await asyncio.sleep(args.patience)
        again = set(await audit(databases, path if path.exists() else None))
        return [each for each in first if each in again]

    found = on_databases(args, work)
    show(args, ("kind", "subject", "detail"), [(each.kind, each.subject, each.detail) for each in found])
    if not path.exists():
        print("The hosts were not looked at: only records were compared.")
    return 1 if found else 0


def _debts(args: argparse.Namespace) -> int:
    from kilonova.cli.manage.opened import on_databases
    from kilonova.db.queries import operator as sql

    async def work(databases: Databases, settings: Settings) -> list[tuple[object, ...]]:
        rows: list[tuple[object, ...]] = []
        for database in databases.all():
            for row in await database.scan(sql.OPEN_DEBTS, {}, list):
                since = datetime.fromtimestamp(row[7] / 1e6, UTC).isoformat(timespec="seconds")
                rows.append((row[0], row[1], row[2], row[3], database.name, row[5], since, row[6]))
        return rows

    rows = on_databases(args, work)
    show(args, ("id", "holder", "kind", "resource", "database", "tries", "since", "error"), rows)
    return 0


async def _off(tx: Tx, facts: dict[str, Any]) -> int:
    from kilonova.db.queries import operator as sql

    return await tx.execute(sql.WRITE_OFF, facts)


def _write_off(args: argparse.Namespace) -> int:
    import getpass

    from kilonova.cli.manage.opened import on_databases

    try:
        who = getpass.getuser()
    except (KeyError, OSError):
        who = "an operator"
    facts = {"id": args.id, "error": f"written off by {who}: {args.reason}", "now": time.time_ns() // 1000}

    async def work(databases: Databases, settings: Settings) -> int:
        return sum([await database.write(_off, facts) for database in databases.all()])

    if not on_databases(args, work):
        raise CliError(f"there is no open debt {args.id}")
    print(f"debt {args.id} is written off")
    return 0
