"""The `kilonova` command: finds the sub-command's module and runs it.

Why: a command line that answers at once. What always holds: only the module of the command that was asked
for is imported, and `--version` imports nothing at all. A module of a command has `add_arguments(parser)` and
`run(args) -> int`; one that passes its words on to another program has `run_words(words) -> int` instead.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from kilonova import __version__

if TYPE_CHECKING:
    from types import ModuleType


class Command(NamedTuple):
    """A sub-command: the module under kilonova.cli that carries it out, and its line in --help."""

    module: str
    summary: str


CLOUD = {
    "up": Command("up", "start the whole cloud in one process"),
    "down": Command("down", "stop it; --purge removes all that it made"),
    "status": Command("status", "what runs, where, and since when"),
    "logs": Command("logs", "the cloud's log"),
    "openstack": Command("openstack", "the official client against this cloud"),
    "env": Command("env", "print the exports that a shell needs to use the cloud"),
    "console": Command("console", "a server's serial console"),
    "manage": Command("manage", "databases, cells, hosts, debts"),
}
SERVICES = {
    "api": Command("service", "the Compute API"),
    "conductor": Command("service", "carries operations out"),
    "scheduler": Command("service", "picks hosts"),
    "compute": Command("service", "runs guests on this host"),
    "placement": Command("service", "resource providers and allocations"),
    "metadata": Command("service", "what guests ask 169.254.169.254"),
}
DEVELOPMENT = {
    "test": Command("test", "install what the tests need, run everything"),
    "check": Command("check", "lint, types, import contracts"),
    "bench": Command("bench", "measure the speed: a table and JSON"),
}
COMMANDS = {**CLOUD, **SERVICES, **DEVELOPMENT}
GROUPS = {"The cloud": CLOUD, "One service a process": SERVICES, "Development": DEVELOPMENT}


def overview() -> str:
    """Return the text of `kilonova --help`."""
    lines = ["usage: kilonova COMMAND [options]", "       kilonova COMMAND --help", ""]
    lines.append("A compute cloud in one package, speaking OpenStack Nova's protocols.")
    for title, commands in GROUPS.items():
        lines += ["", f"{title}:"]
        lines += [f"  {name:<11} {command.summary}" for name, command in commands.items()]
    return "\n".join([*lines, "", "Options: --version, --help"])


def load(name: str) -> ModuleType:
    """Import the module that carries out command `name` (a key of COMMANDS)."""
    from importlib import import_module

    return import_module(f"kilonova.cli.{COMMANDS[name].module}")


def dispatch(name: str, words: Sequence[str]) -> int:
    """Run command `name` with its `words`; return the process's exit code."""
    module = load(name)
    if hasattr(module, "run_words"):
        return int(module.run_words(list(words)))
    from argparse import ArgumentParser

    parser = ArgumentParser(prog=f"kilonova {name}", description=(module.__doc__ or "").split("\n\n")[0])
    parser.set_defaults(command=name)
    module.add_arguments(parser)
    return int(module.run(parser.parse_args(words)))


def main(words: Sequence[str] | None = None) -> int:
    """Entry point of the script and of `python -m kilonova`; returns the exit code."""
    words = sys.argv[1:] if words is None else words
    name = words[0] if words else "--help"
    if name in ("--version", "-V"):
        print(f"kilonova {__version__}")
        return 0
    if name in ("--help", "-h", "help"):
        print(overview())
        return 0 if words else 2
    if name not in COMMANDS:
        print(f"kilonova: no command {name!r}; `kilonova --help` lists them", file=sys.stderr)
        return 2
    from kilonova.cli.errors import CliError

    try:
        return dispatch(name, words[1:])
    except CliError as error:
        print(f"kilonova: {error}", file=sys.stderr)
        return error.code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader went away (`kilonova logs | head`): not a failure, and the interpreter must not
        # complain again when it flushes.
        sys.stdout = None
        return 0
