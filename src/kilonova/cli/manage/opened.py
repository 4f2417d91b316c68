"""Settings and open databases for the length of one command."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from kilonova.cli.compose.stores import open_all
from kilonova.cli.service import load_settings
from kilonova.config.settings import Settings
from kilonova.db.open import Databases

T = TypeVar("T")


def settings_of(args: argparse.Namespace) -> Settings:
    """Of -c and --dir. Raises CliError."""
    folder = getattr(args, "dir", None)
    files = list(getattr(args, "config", ()))
    if folder is not None and not files and (folder / "kilonova.toml").exists():
        files = [folder / "kilonova.toml"]
    return load_settings(files, {"kilonova.dir": str(folder)} if folder is not None else None)


def on_databases(args: argparse.Namespace, work: Callable[[Databases, Settings], Awaitable[T]]) -> T:
    """Run `work` with the cloud's databases open. Raises CliError when they are away or their tables are old."""
    settings = settings_of(args)

    async def main() -> T:
        async with await open_all(settings, wait=False) as databases:
            return await work(databases, settings)

    return asyncio.run(main())
