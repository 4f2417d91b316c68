"""Lint (ruff), types (mypy, strict) and import contracts (import-linter) of this checkout."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

import kilonova
from kilonova.cli.errors import CliError

SCRIPTS = Path(sys.prefix) / "bin"
CHECKS: dict[str, tuple[str, ...]] = {
    "lint": (str(SCRIPTS / "ruff"), "check", "--quiet", "kilonova", "src", "tests", "scripts"),
    "types": (sys.executable, "-I", "-m", "mypy", "--no-error-summary", "src", "scripts", "kilonova"),
    "imports": (sys.executable, "-I", str(SCRIPTS / "lint-imports"), "--config", ".importlinter", "--no-logo"),
}


def checkout() -> Path:
    """Return the repository's root. Raises CliError when this is an installed wheel, without one."""
    root = Path(kilonova.__file__).parents[2]
    if not (root / "pyproject.toml").exists():
        raise CliError("there is no checkout here: development commands work in the repository only")
    return root


def check(root: Path, name: str) -> bool:
    """Run one check, printing its complaints and one line of result; return whether it passed."""
    started = time.monotonic()
    command = [word for word in CHECKS[name] if word not in ("tests", "scripts") or (root / word).exists()]
    done = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    passed = done.returncode == 0
    if not passed:
        print(done.stdout.rstrip())
    print(f"{name:<10} {'passed' if passed else 'FAILED'} ({time.monotonic() - started:.1f} s)", flush=True)
    return passed


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checks", nargs="*", metavar="CHECK", help=f"of {', '.join(CHECKS)} (default: all)")


def run(args: argparse.Namespace) -> int:
    root = checkout()
    unknown = [name for name in args.checks if name not in CHECKS]
    if unknown:
        raise CliError(f"no check {unknown[0]!r}; there are {', '.join(CHECKS)}", code=2)
    outcomes = [check(root, name) for name in args.checks or CHECKS]
    return 0 if all(outcomes) else 1
