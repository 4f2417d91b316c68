"""`kilonova bench [NAME...] [--json FILE]`: a table of figures, each with its target and CPU beside wall.

Wall figures are true of an idle machine only; CPU per operation holds on a busy one within half again.
Nothing here fails because a target is missed: tests/bench gates on CPU.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import sys
import time
from importlib import import_module
from pathlib import Path

import msgspec

from kilonova.bench.figure import Figure, table

BENCHES = {
    "start": "second start and idle, with 10,000 sim hosts and 1,000 servers",
    "servers": "create and delete over HTTP, to the event stream",
    "slow_disk": "a create with slow commits; commits in a row",
    "reads": "one server; pages of 1,000, also with 100,000 in the table",
    "lag": "what the event loop keeps others waiting",
    "placing": "choosing hosts, durable claims",
    "messages": "the queue",
    "guest": "a real guest, beside `virsh create` of the same XML",
}
BY_DEFAULT = tuple(name for name in BENCHES if name != "guest")
LIMIT_S = 90.0
"""One benchmark may take so long; then it counts as failed."""


async def _one(name: str, limit_s: float) -> tuple[list[Figure], str]:
    """(figures, why there are none)."""
    module = import_module(f"kilonova.bench.{name}")
    try:
        async with asyncio.timeout(getattr(module, "LIMIT_S", limit_s)):
            figures: list[Figure] = await module.run()
            return figures, ""
    except Exception as error:
        return [], f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _parse(words: list[str]) -> argparse.Namespace:
    listed = "\n".join(f"  {name:<10} {text}" for name, text in BENCHES.items())
    parser = argparse.ArgumentParser(
        prog="kilonova bench", description=__doc__, epilog=f"benchmarks:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("names", nargs="*", metavar="NAME", help="which (default: all but guest)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    args = parser.parse_args(words)
    unknown = [name for name in args.names if name not in BENCHES]
    if unknown:
        parser.error(f"no benchmark {unknown[0]!r}; there are {', '.join(BENCHES)}")
    return args


def _loop_factory() -> type | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop  # type: ignore[return-value]  # a function that makes loops does as well


def main(words: list[str]) -> int:
    """Run the benchmarks that `words` names; 1 when one could not be run."""
    args = _parse(words)
    found: dict[str, list[Figure]] = {}
    failed: dict[str, str] = {}
    started = time.monotonic()
    load = os.getloadavg()[0]
    print(f"{os.cpu_count()} CPUs, load {load:.1f}, Python {platform.python_version()}, {platform.platform()}")
    for name in args.names or BY_DEFAULT:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            figures, why = runner.run(_one(name, LIMIT_S))
        if why:
            failed[name] = why
            print(f"{name}: could not be run: {why}", file=sys.stderr, flush=True)
        else:
            found[name] = figures
            print(table({name: figures}), flush=True)
    seconds = time.monotonic() - started
    every = [figure for figures in found.values() for figure in figures]
    missed = sum(figure.met is False for figure in every)
    aimed = sum(figure.met is not None for figure in every)
    loads = f"load {load:.1f} before and {os.getloadavg()[0]:.1f} after"
    print(f"{aimed - missed} of {aimed} targets met, {loads}, {seconds:.0f} s")
    if args.json is not None:
        told = {
            "cpus": os.cpu_count(), "load": load, "python": platform.python_version(), "seconds": round(seconds, 1),
            "benchmarks": {
                name: [{**msgspec.to_builtins(f), "target": f.target, "met": f.met} for f in figures]
                for name, figures in found.items()
            },
            "failed": failed,
        }  # fmt: skip
        args.json.write_bytes(msgspec.json.format(msgspec.json.encode(told), indent=1) + b"\n")
    return 1 if failed else 0
