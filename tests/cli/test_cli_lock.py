"""The lock file says what pyproject.toml asks for, with hashes, and nothing about where it comes from."""

from __future__ import annotations

import re
import tomllib

import pytest
from cli_checkout import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from kilonova.cli import environment

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WANTED = {"runtime": PROJECT["dependencies"], **PROJECT["optional-dependencies"]}


@pytest.mark.parametrize("section", WANTED)
def test_every_requirement_is_pinned_and_fits(section: str) -> None:
    lock = environment.read_lock(ROOT)
    together = ["runtime", section] if section in ("test", "check") else [section]
    pins = {
        canonicalize_name(name): block.split("==")[1].split()[0]
        for name, block in environment.requirements(lock, together).items()
    }
    for line in WANTED[section]:
        requirement = Requirement(line)
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), (
            f"{line}: run scripts/lock.py"
        )


def test_every_package_has_hashes_and_no_address() -> None:
    text = (ROOT / "requirements.lock").read_text()
    assert "://" not in text
    assert not re.search(r"^\s*(--?(index|extra|find|trusted)|-i|-f)", text, re.MULTILINE)
    for section in environment.read_lock(ROOT).values():
        for block in re.split(r"\n(?=\S)", section.strip()):
            assert re.match(r"[a-z0-9.-]+==\S+( ; .+?)? \\\n    --hash=sha256:[0-9a-f]{64}", block), block[:80]


def test_sections_of_one_environment_agree() -> None:
    lock = environment.read_lock(ROOT)
    runtime = environment.requirements(lock, ["runtime"])
    for section in ("test", "check"):
        own = environment.requirements(lock, [section])
        assert not set(own) & set(runtime)
    test, check = (environment.requirements(lock, [name]) for name in ("test", "check"))
    assert all(test[name] == check[name] for name in set(test) & set(check))
