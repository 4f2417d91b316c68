"""Show the cloud's log: its last lines, and with --follow what is added to it."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import BinaryIO

from kilonova.cli import place, running
from kilonova.cli.errors import CliError

CHUNK = 1 << 16


def add_arguments(parser: argparse.ArgumentParser) -> None:
    place.add_dir_argument(parser)
    parser.add_argument("-n", "--lines", type=int, default=50, metavar="N", help="last N lines (%(default)s)")
    parser.add_argument("-f", "--follow", action="store_true", help="go on until Ctrl-C or the cloud's end")


def seek_last(log: BinaryIO, lines: int) -> None:
    """Move to the start of the last `lines` lines, reading backwards no more than it takes."""
    position = log.seek(0, os.SEEK_END)
    found = 0
    while position > 0:
        size = min(CHUNK, position)
        position -= size
        log.seek(position)
        block = log.read(size)
        for at in range(len(block) - 1, -1, -1):
            # The file's own last newline ends a line, it doesn't begin one.
            if block[at] == 10 and (found := found + 1) > lines:
                log.seek(position + at + 1)
                return
    log.seek(0)


def follow(path: Path, log: BinaryIO, folder: Path) -> None:
    """Print what is added to `log`, also when it is rotated or cut, until no cloud runs any more."""
    while True:
        if block := log.read(CHUNK):
            sys.stdout.buffer.write(block)
            sys.stdout.buffer.flush()
            continue
        try:
            named, opened = path.stat(), os.fstat(log.fileno())
        except FileNotFoundError:
            return
        if named.st_ino != opened.st_ino:
            log.close()
            log = path.open("rb")
            continue
        if named.st_size < log.tell():
            log.seek(0)
            continue
        if not running.is_held(folder):
            return
        time.sleep(0.2)


def run(args: argparse.Namespace) -> int:
    path = args.dir / place.LOG
    try:
        log = path.open("rb")
    except OSError as error:
        raise CliError(f"{path}: {error.strerror}") from None
    with log:
        seek_last(log, max(0, args.lines))
        while block := log.read(CHUNK):
            sys.stdout.buffer.write(block)
        sys.stdout.buffer.flush()
        if args.follow:
            follow(path, log, args.dir)
    return 0
