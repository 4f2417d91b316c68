"""`manage db`: the tables of the databases."""

from __future__ import annotations

import argparse
import asyncio
from typing import Any

from kilonova.cli.errors import CliError
from kilonova.cli.manage.table import add_json, show


def add(commands: Any, base: argparse.ArgumentParser) -> None:
    group = commands.add_parser("db", help="tables: make, migrate, show their version")
    parts = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    sync = parts.add_parser(
        "sync", parents=[base], help="make or migrate the tables of every database",
        description="Make the tables that are missing and migrate older ones. Harmless when all is up to date; "
        "any number may run at the same time. A SQLite file is copied beside itself before it is migrated.",
    )  # fmt: skip
    sync.set_defaults(act=_sync)
    version = parts.add_parser(
        "version", parents=[base], help="show the tables' versions; exit code 1 when `db sync` has work to do"
    )
    add_json(version)
    version.set_defaults(act=_version)


def _sync(args: argparse.Namespace) -> int:
    from kilonova.cli.compose.connect import folder_of
    from kilonova.cli.compose.stores import database_urls, kinds
    from kilonova.cli.manage.opened import settings_of
    from kilonova.db.errors import SchemaTooNew
    from kilonova.db.migrate import Kind, ensure
    from kilonova.db.migrations import HEAD
    from kilonova.db.url import Location, locate

    settings = settings_of(args)
    wanted: dict[Location, set[Kind]] = {}
    urls = database_urls(settings)
    for name, url in urls.items():
        location = locate(url)
        wanted.setdefault(location, set()).update(kinds(name))
        if location.path is not None:
            folder_of(settings).mkdir(mode=0o711, parents=True, exist_ok=True)

    async def main() -> None:
        for location, found in wanted.items():
            await ensure(location.path or location.dsn, found)
            names = [name for name, url in urls.items() if locate(url) == location]
            print(f"{', '.join(names)}: tables of version {HEAD} in {location}")

    try:
        asyncio.run(main())
    except SchemaTooNew as error:
        raise CliError(str(error)) from None
    return 0


def _version(args: argparse.Namespace) -> int:
    from kilonova.cli.compose.stores import database_urls, kinds
    from kilonova.cli.manage.opened import settings_of
    from kilonova.db.migrate import versions
    from kilonova.db.migrations import HEAD
    from kilonova.db.url import locate

    urls = database_urls(settings_of(args))

    async def main() -> list[tuple[str, str, str, int, str]]:
        rows = []
        for name, url in urls.items():
            found = await versions(url)
            numbers = {found.get(kind, 0) for kind in ("journal", *kinds(name))}
            word = "old" if min(numbers) < HEAD else "newer" if max(numbers) > HEAD else "current"
            if not found:
                word = "missing"
            rows.append((name, str(locate(url)), "/".join(map(str, sorted(numbers))), HEAD, word))
        return rows

    rows = asyncio.run(main())
    show(args, ("database", "where", "version", "known", "state"), rows)
    return 0 if all(row[-1] == "current" for row in rows) else 1
