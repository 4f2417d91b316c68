"""From settings to open databases, for a process of its own.

Its tables are made and migrated by `manage db sync` and by nobody else; a database that is away is waited for.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from urllib.parse import quote, urlencode

from kilonova.cli.compose.connect import folder_of, where
from kilonova.cli.errors import CliError
from kilonova.config.sections_control import Database as DatabaseSection
from kilonova.config.settings import Settings
from kilonova.config.urls import DatabaseUrl
from kilonova.db.errors import SchemaTooNew, Unavailable
from kilonova.db.migrate import Kind, behind
from kilonova.db.open import CELL0, GLOBAL, Databases, open_databases
from kilonova.log import get_logger

log = get_logger(__name__)
_WAIT_S = 2.0
Urls = Mapping[str, str | os.PathLike[str]]


def dsn(url: DatabaseUrl) -> str:
    """The URL with its password, for the executor. ValueError for a kind that is not supported."""
    if url.dialect == "sqlite":
        return f"sqlite:///{url.database}"
    if url.dialect != "postgresql":
        raise ValueError(f"databases of kind {url.dialect} are not supported yet; use postgresql:// or sqlite://")
    who = quote(url.user, safe="")
    if url.password:
        who += f":{quote(url.password.reveal(), safe='')}"
    at = f"[{url.host}]" if ":" in url.host else url.host
    if at:
        at += f":{url.port}"
    query = f"?{urlencode(url.options)}" if url.options else ""
    return f"postgresql://{who}{'@' if who else ''}{at}/{quote(url.database, safe='')}{query}"


def database_urls(settings: Settings) -> Urls:
    """URLs by database name. [api_database] is the global one, [database] the cell's. Raises CliError."""

    def url(section: str, given: DatabaseSection) -> str | None:
        if given.connection is None:
            return None
        try:
            return dsn(given.connection)
        except ValueError as error:
            raise CliError(f"{where(settings, section, 'connection')}: {error}") from None

    own = url("api_database", settings.api_database)
    cell = url("database", settings.database)
    file = folder_of(settings) / "kilonova.db"
    whole: str | os.PathLike[str] = own or cell or file
    return {
        GLOBAL: whole,
        CELL0: url("cell0_database", settings.cell0_database) or whole,
        settings.kilonova.cell: cell or whole,
    }


async def open_all(settings: Settings, *, cells: bool = True, wait: bool = True) -> Databases:
    """Open the databases once they answer; tables must be there (`manage db sync`). Raises CliError.

    Without `cells` only the global one; without `wait` a database that is away raises CliError.
    """
    urls = {name: url for name, url in database_urls(settings).items() if cells or name == GLOBAL}
    waited = False
    while True:
        try:
            for name, url in urls.items():
                if await behind(url, kinds(name)):
                    raise CliError(f"the database {name} lacks tables of today: run `kilonova manage db sync`")
            return await open_databases(urls, create=False, connections=_connections(settings))
        except SchemaTooNew as error:
            raise CliError(str(error)) from None
        except Unavailable as error:
            if not wait:
                raise CliError(f"the database cannot be reached: {error}") from None
            log.log(30 if not waited else 20, "waiting for the database: %s", error)
            waited = True
            await asyncio.sleep(_WAIT_S)


def _connections(settings: Settings) -> dict[str, int]:
    """What max_pool_size says, where it was said: Nova's default is for another kind of pool."""
    sections = {GLOBAL: "api_database", CELL0: "cell0_database", settings.kilonova.cell: "database"}
    return {
        name: getattr(settings, section).max_pool_size
        for name, section in sections.items()
        if settings.source(section, "max_pool_size") != "default"
    }


def kinds(name: str) -> set[Kind]:
    """What tables the database of this name holds."""
    return {"global"} if name == GLOBAL else {"cell"}
