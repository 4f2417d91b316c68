"""`manage cell`, `host`, `service`: what the cloud consists of."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from kilonova.cli.manage.table import add_json, show

if TYPE_CHECKING:
    from kilonova.config.settings import Settings
    from kilonova.db.open import Databases


def add(commands: Any, base: argparse.ArgumentParser) -> None:
    cell = commands.add_parser("cell", help="databases that hold servers")
    parts = cell.add_subparsers(title="commands", metavar="COMMAND", required=True)
    listed = parts.add_parser("list", parents=[base], help="cells with their databases, hosts and servers")
    add_json(listed)
    listed.set_defaults(act=_cells)

    host = commands.add_parser("host", help="hypervisor hosts")
    parts = host.add_subparsers(title="commands", metavar="COMMAND", required=True)
    listed = parts.add_parser("list", parents=[base], help="hosts with their cells, sizes and guests")
    add_json(listed)
    listed.set_defaults(act=_hosts)
    discover = parts.add_parser(
        "discover", parents=[base], help="show hosts that came since; nothing has to be done for them",
        description="A host enters its cell with its first report, so there is nothing to map. This command is "
        "here for scripts that call it, and tells how many hosts there are.",
    )  # fmt: skip
    discover.set_defaults(act=_discover)

    service = commands.add_parser("service", help="conductors and compute services")
    parts = service.add_subparsers(title="commands", metavar="COMMAND", required=True)
    listed = parts.add_parser("list", parents=[base], help="services; living conductors with their incarnations")
    add_json(listed)
    listed.set_defaults(act=_services)


def _cells(args: argparse.Namespace) -> int:
    from kilonova.cli.compose.stores import database_urls
    from kilonova.cli.manage.opened import on_databases
    from kilonova.db.queries import operator as sql
    from kilonova.db.url import locate

    async def work(databases: Databases, settings: Settings) -> list[tuple[object, ...]]:
        hosts: dict[str, int] = dict(await databases.global_.fetch(sql.HOSTS_OF_CELLS, {}))
        urls = database_urls(settings)
        rows: list[tuple[object, ...]] = []
        servers: dict[str, int] = dict(await databases.global_.fetch(sql.SERVERS_OF_CELLS, {}))
        for name in databases.cells:
            rows.append((name, str(locate(urls[name])), hosts.get(name, 0), servers.get(name, 0)))
        return rows

    show(args, ("cell", "database", "hosts", "servers"), on_databases(args, work))
    return 0


def _host_rows(args: argparse.Namespace) -> list[tuple[object, ...]]:
    from kilonova.cli.manage.opened import on_databases
    from kilonova.db.queries import operator as sql

    async def work(databases: Databases, settings: Settings) -> list[tuple[object, ...]]:
        return await databases.global_.scan(sql.HOSTS, {}, list)

    return on_databases(args, work)


def _hosts(args: argparse.Namespace) -> int:
    rows = []
    for *facts, disabled, forced_down, debts in _host_rows(args):
        rows.append((*facts, "disabled" if disabled else "enabled", "yes" if forced_down else "no", debts))
    show(args, ("host", "cell", "vcpus", "memory_mb", "guests", "status", "forced_down", "debts"), rows)
    return 0


def _discover(args: argparse.Namespace) -> int:
    rows = _host_rows(args)
    cells = sorted({str(row[1]) for row in rows})
    print(f"{len(rows)} hosts in {', '.join(cells) or 'no cell'}; new ones enter by themselves")
    return 0


def _services(args: argparse.Namespace) -> int:
    from kilonova.cli.manage.opened import on_databases
    from kilonova.db.queries import operator as sql
    from kilonova.db.queries import services

    async def work(databases: Databases, settings: Settings) -> list[tuple[object, ...]]:
        found = [services.service(row) for row in await databases.global_.scan(services.ALL, {}, list)]
        rows: list[tuple[object, ...]] = [
            (each.binary, each.host, each.cell, "disabled" if each.disabled else "enabled", each.uuid)
            for each in found
        ]
        for database in databases.all():
            rows += [
                ("conductor", name, database.name, f"beat {beat}", incarnation)
                for incarnation, name, beat in await database.fetch(sql.LIVING_OWNERS, {})
            ]
        return rows

    show(args, ("service", "host", "cell", "status", "id"), on_databases(args, work))
    return 0
