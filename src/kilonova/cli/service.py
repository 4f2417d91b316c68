"""Run one service in this process, from a configuration file (nova.conf or TOML).

Ends cleanly at SIGTERM or Ctrl-C; opens its log file again at SIGHUP. `kilonova manage` makes what services need
first: tables (db sync), accounts (bootstrap) and keys for the queue (enroll).
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from kilonova.cli.errors import CliError

if TYPE_CHECKING:
    from kilonova.cli.compose.process import Service
    from kilonova.config.settings import Settings

HTTP = {"api": 8774, "placement": 8778, "metadata": 8775}
"""Services that listen, with their ports where nothing else is said (OpenStack's)."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-c", "--config", type=Path, action="append", default=[], metavar="FILE",
        help="settings; several are read in order, the last one wins (default: /etc/kilonova and the environment)",
    )  # fmt: skip
    parser.add_argument("--name", metavar="NAME", help="this process on the queue, as enrolled")
    if parser.get_default("command") in HTTP:
        parser.add_argument("--host", metavar="ADDRESS", help="address to listen on (default: [kilonova] host)")
        parser.add_argument("--port", type=int, help="port to listen on (default: [kilonova] port)")


def load_settings(files: list[Path], overrides: dict[str, object] | None = None) -> Settings:
    """Settings of these files (none: /etc/kilonova if it is there) and KILONOVA_*. Raises CliError."""
    from kilonova.config import ConfigError, load

    standard = Path("/etc/kilonova")
    paths = files or ([standard] if standard.is_dir() else [])
    try:
        return load(paths, os.environ, overrides)
    except ConfigError as error:
        raise CliError(str(error)) from None


def run(args: argparse.Namespace) -> int:
    name: str = args.command
    if name == "scheduler":
        raise CliError("every conductor holds a scheduler of its own: run `kilonova conductor`", code=2)
    listen = {
        f"kilonova.{option}": value
        for option in ("host", "port")
        if (value := getattr(args, option, None)) is not None
    }  # fmt: skip
    settings = load_settings(args.config, listen)
    from kilonova import log
    from kilonova.cli.compose import process
    from kilonova.cli.compose.connect import process_name

    service = make(name, settings, process_name(settings, name, args.name))
    try:
        log.setup(settings.log.level, settings.log.json, settings.log.file, queue=settings.log.queue)
    except OSError as error:
        raise CliError(f"the log cannot be written: {error.filename}: {error.strerror}") from None
    try:
        for line in settings.warnings:
            log.get_logger(__name__).warning("%s", line)
        return process.run(service, name)
    finally:
        log.close()


def make(name: str, settings: Settings, process: str) -> Service:
    """The service called `name`, not started; what it listens on is bound. Raises CliError."""
    if name == "conductor":
        from kilonova.cli.compose.conductor import ConductorProcess

        return ConductorProcess(settings, process)
    if name == "compute":
        from kilonova.cli.compose.compute import ComputeProcess

        return ComputeProcess(settings, process)
    from kilonova.cli.compose.server import bind

    port = settings.kilonova.port
    if settings.source("kilonova", "port") == "default":
        port = HTTP[name]
    own = settings.kilonova
    if not (own.host in ("localhost", "::1") or own.host.startswith("127.")) and not (own.tls_cert or own.insecure):
        raise CliError(f"listening on {own.host} needs [kilonova] tls_cert and tls_key, or insecure = true")
    sock = bind(own.host, port)
    if name == "api":
        from kilonova.cli.compose.api import ApiProcess

        return ApiProcess(settings, process, sock)
    if name == "placement":
        from kilonova.cli.compose.placement import PlacementProcess

        return PlacementProcess(settings, process, sock)
    from kilonova.cli.compose.metadata import MetadataProcess

    return MetadataProcess(settings, process, sock)
