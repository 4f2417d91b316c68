"""Stop the cloud. Guests stay running and are found again at the next `up`, unless --purge is given.

--purge destroys the guests and all state that this cloud made, and nothing else.
"""

from __future__ import annotations

import argparse

from kilonova.cli import place, running


def add_arguments(parser: argparse.ArgumentParser) -> None:
    place.add_dir_argument(parser)
    parser.add_argument("--purge", action="store_true", help="also destroy guests and all that was made")
    parser.add_argument(
        "--timeout", type=float, default=30.0, metavar="S", help="seconds until it is killed (%(default)g)"
    )


def run(args: argparse.Namespace) -> int:
    stopped = running.stop(args.dir, args.timeout)
    print(f"Stopped the cloud in {args.dir}" if stopped else f"No cloud runs in {args.dir}")
    if args.purge:
        from kilonova.cli.purge import purge_world

        for line in purge_world(args.dir):
            print(line)
    return 0
