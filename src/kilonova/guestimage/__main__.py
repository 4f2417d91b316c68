"""``python -m kilonova.guestimage TARGET``: build the guest image and print what it is, as one line of JSON."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import msgspec

from kilonova.guestimage import BuildError, build


def main() -> int:
    """Build by the command line's word; progress and errors go to stderr, the result to stdout."""
    parser = argparse.ArgumentParser(prog="python -m kilonova.guestimage", description=__doc__)
    parser.add_argument("target", type=Path, help="where to put the qcow2 image")
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    parser.add_argument("--cache", type=Path, default=base / "kilonova" / "guestimage", help="folder for the cache")
    parser.add_argument("--refresh", action="store_true", help="ask for newer packages even if there is an image")
    options = parser.parse_args()
    try:
        image = build(options.target, cache=options.cache, progress=_say, refresh=options.refresh)
    except (BuildError, OSError) as error:
        sys.stderr.write(f"guest image: {error}\n")
        return 1
    sys.stdout.write(msgspec.json.encode(image).decode() + "\n")
    return 0


def _say(what: str, part: float) -> None:
    sys.stderr.write(f"{part:4.0%} {what}\n")


if __name__ == "__main__":
    sys.exit(main())
