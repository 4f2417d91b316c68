"""Write requirements.lock from pyproject.toml: every package, pinned, with the hashes of all its files.

Why: the launcher installs from this one file and from nothing else, so it must serve CPython 3.11 to 3.14
on x86_64 and aarch64 Linux alike. What always holds: one version a package over all of them wherever one
fits, every published file's hash, no index address. The resolver is uv (`pip install uv`, development only);
which index it asks is whatever its own settings say.

Usage: python scripts/lock.py [--upgrade | --verify]
Without --upgrade, versions already in requirements.lock stay where they still satisfy pyproject.toml. --verify
only asks whether every Python and machine we serve finds a wheel for each line.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
HEADER = "# Made by scripts/lock.py from pyproject.toml: don't edit. Sections are installed by ./kilonova.\n"
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
MACHINES = ("x86_64", "aarch64")
# Sections that share one environment: their versions agree, and what runtime has isn't said again.
TOGETHER = ("runtime", "test", "check")
# Published as source only: whoever wants these builds them (kilonova.cli.environment.build_from_source).
SOURCE_ONLY = {"libvirt": "libvirt-python", "neighbours": "simplegeneric"}
OUTSIDE_LINUX = re.compile(r"== '(win32|Windows|darwin|nt|Darwin|wasi|emscripten)'")


def resolve(requirements: Iterable[str], pins: str, work: Path) -> dict[str, str]:
    """Return {"name==version ; marker": block with hashes} of the whole closure of `requirements`."""
    wanted, constraint = work / "wanted.in", work / "pins.txt"
    wanted.write_text("\n".join(requirements) + "\n")
    constraint.write_text(pins)
    command = ["uv", "pip", "compile", "--universal", "--generate-hashes", "--no-annotate", "--no-header"]
    command += ["--quiet", "--no-emit-index-url", "--no-emit-find-links", "--python-version", "3.11"]
    command += ["--fork-strategy", "fewest", "--constraint", str(constraint), str(wanted)]
    found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=work).stdout
    blocks = re.split(r"\n(?=\S)", found.strip())
    named = {block.split(" \\\n", 1)[0].strip(): block for block in blocks if block}
    return {name: block for name, block in named.items() if not OUTSIDE_LINUX.search(name)}


def current_pins() -> str:
    """Return the lock's own versions as constraints, or nothing when there is no lock yet."""
    if not LOCK.exists():
        return ""
    pins = dict.fromkeys(re.findall(r"^([A-Za-z0-9][^ ]*==[^\s\\]+)", LOCK.read_text(), re.MULTILINE))
    return "\n".join(pins) + "\n"


def verify() -> int:
    """Try every section on every Python and machine we serve, downloading nothing; return the failures."""
    parts = re.split(r"^# \[(\w+)\]\n", LOCK.read_text(), flags=re.MULTILINE)
    failures = 0
    with tempfile.TemporaryDirectory() as folder:
        for name, text in zip(parts[1::2], parts[2::2], strict=True):
            blocks = re.split(r"\n(?=\S)", text.strip())
            wheels = [block for block in blocks if block.split("==")[0] != SOURCE_ONLY.get(name)]
            listed = Path(folder, f"{name}.txt")
            listed.write_text("\n".join(wheels) + "\n")
            for python in PYTHONS:
                for machine in MACHINES:
                    command = ["uv", "pip", "install", "--dry-run", "--target", folder, "--no-deps", "--quiet"]
                    command += ["--python-version", python, "--python-platform", f"{machine}-manylinux_2_28"]
                    command += ["--only-binary", ":all:", "--require-hashes", "-r", str(listed)]
                    if subprocess.run(command, check=False).returncode:
                        failures += 1
                        sys.stdout.write(f"[{name}] fails on Python {python}, {machine}\n")
    return failures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions that fit")
    parser.add_argument("--verify", action="store_true", help="only check the lock for all we serve")
    options = parser.parse_args()
    if options.verify:
        return 1 if verify() else 0
    upgrade = options.upgrade
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted: dict[str, list[str]] = {"runtime": project["dependencies"], **project["optional-dependencies"]}
    pins = "" if upgrade else current_pins()
    sections: dict[str, dict[str, str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        shared = resolve([line for name in TOGETHER for line in wanted[name]], pins, work)
        agreed = "".join(name + "\n" for name in shared)
        taken: set[str] = set()
        for name, requirements in wanted.items():
            closure = resolve(requirements, agreed if name in TOGETHER else pins, work)
            if name in TOGETHER:
                closure = {key: block for key, block in closure.items() if key.split("=")[0] not in taken}
            if name == "runtime":
                taken = {key.split("=")[0] for key in closure}
            sections[name] = closure
    text = HEADER + "".join(
        f"\n# [{name}]\n" + "".join(closure[key] + "\n" for key in sorted(closure))
        for name, closure in sections.items()
    )
    if "://" in text:
        sys.exit("the resolver wrote an address into the lock: refused")
    LOCK.write_text(text)
    sys.stdout.write("".join(f"{name}: {len(closure)} packages\n" for name, closure in sections.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
