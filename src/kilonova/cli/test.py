"""Install what the tests need and run everything: checks first, then suite after suite.

Words that aren't options of this command go to pytest, e.g. `./kilonova test --suite unit -k placement`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser
from dataclasses import dataclass
from pathlib import Path

from kilonova.cli import check, os_packages, suites
from kilonova.cli.errors import CliError, MissingPackagesError

NO_TESTS = 5  # pytest's exit code when nothing was collected


@dataclass
class Result:
    """How one suite went: whether it may stand, counts of its tests, and the seconds it took."""

    name: str
    good: bool
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    seconds: float = 0.0
    note: str = ""

    def line(self) -> str:
        word = "passed" if self.good else "FAILED"
        counts = f"{self.passed:5} passed {self.failed:4} failed {self.skipped:4} skipped"
        return f"{self.name:<12} {word} {counts} {self.seconds:7.1f} s  {self.note}".rstrip()


def parse(words: list[str]) -> tuple[list[str], list[str]]:
    """Return (names of the suites asked for, words for pytest)."""
    parser = ArgumentParser(prog="kilonova test", description=__doc__)
    known = ", ".join(["static", *suites.SUITES, *suites.SOAKS])
    parser.add_argument("--suite", action="append", metavar="NAME", help=f"only {known}, or a folder of tests/")
    options, rest = parser.parse_known_args(words)
    return options.suite or [], [word for word in rest if word != "--"]


def static(root: Path) -> Result:
    """The suite of checks; each counts as one test."""
    started = time.monotonic()
    outcomes = [check.check(root, name) for name in check.CHECKS]
    passed = outcomes.count(True)
    failed = outcomes.count(False)
    return Result("static", failed == 0, passed, failed, seconds=time.monotonic() - started)


def count(report: Path) -> tuple[int, int, int]:
    """Return (passed, failed, skipped) of a JUnit report that pytest wrote; zeros without one."""
    try:
        head = report.read_text()[:2000]
    except OSError:
        return 0, 0, 0
    seen = {name: int(number) for name, number in re.findall(r'\b(errors|failures|skipped|tests)="(\d+)"', head)}
    failed = seen.get("errors", 0) + seen.get("failures", 0)
    skipped = seen.get("skipped", 0)
    return max(0, seen.get("tests", 0) - failed - skipped), failed, skipped


def provide(suite: suites.Suite) -> None:
    """Install what `suite` needs from the operating system, or raise MissingPackagesError."""
    os_packages.ensure(suite.needs())
    if suite.binding:
        from kilonova.cli import libvirt_binding

        libvirt_binding.ensure()


def pytest(root: Path, name: str, words: list[str], may_be_empty: bool) -> Result:
    """Run one suite of tests.

    One whose packages are missing is left out, with a note, where a plain user asked for everything; as root,
    or asked for by name, that's a failure.
    """
    suite = suites.find(root, name)
    if suite is None:
        known = ", ".join(["static", *suites.SUITES, *suites.SOAKS])
        raise CliError(f"no suite {name!r}; there are {known} and folders of tests/", code=2)
    folders = [word for word in suite.words if word.startswith("tests/")]
    if any(not (root / folder).exists() for folder in folders):
        return Result(name, may_be_empty, note="no tests yet")
    started = time.monotonic()
    print(f"\n== {name}", flush=True)
    try:
        provide(suite)
    except MissingPackagesError as error:
        print(f"kilonova: {error}", file=sys.stderr)
        return Result(name, may_be_empty and os.geteuid() != 0, note="NOT RUN: packages are missing")
    with tempfile.TemporaryDirectory(prefix="kilonova-test-") as folder:
        report = Path(folder, "report.xml")
        command = [sys.executable, "-m", "pytest", f"--junitxml={report}", *suite.words, *words]
        environment = {**os.environ, **suite.environment}
        code = subprocess.run(command, cwd=root, env=environment, check=False).returncode
        passed, failed, skipped = count(report)
    good = code == 0 or (code == NO_TESTS and may_be_empty)
    note = "no tests" if code == NO_TESTS else ""
    return Result(name, good, passed, failed, skipped, time.monotonic() - started, note)


def run_words(words: list[str]) -> int:
    asked, rest = parse(words)
    root = check.checkout()
    results: list[Result] = []
    # Words for pytest (-k placement) may select nothing in most suites, which then is no failure.
    may_be_empty = bool(rest) or not asked
    for name in asked or ([] if rest else ["static"]) + list(suites.SUITES):
        results.append(static(root) if name == "static" else pytest(root, name, rest, may_be_empty))
    print()
    for result in results:
        print(result.line())
    passed, failed, skipped = (sum(getattr(r, key) for r in results) for key in ("passed", "failed", "skipped"))
    print(f"{passed} passed, {failed} failed, {skipped} skipped", flush=True)
    return 0 if all(result.good for result in results) and passed > 0 else 1
