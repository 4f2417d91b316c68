"""Print the exports that let a shell's OpenStack clients use this cloud: eval "$(./kilonova env)"."""

from __future__ import annotations

import argparse

from kilonova.cli import place
from kilonova.cli.errors import CliError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    place.add_dir_argument(parser)


def run(args: argparse.Namespace) -> int:
    path = args.dir / place.OPENRC
    try:
        print(path.read_text(), end="")
    except FileNotFoundError:
        raise CliError(f"no cloud was made in {args.dir}; `kilonova up` makes one") from None
    except OSError as error:
        raise CliError(f"{path}: {error.strerror}") from None
    return 0
