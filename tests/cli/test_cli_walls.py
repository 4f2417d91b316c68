"""The import contracts cover every room: a new one can't be without walls by being forgotten."""

from __future__ import annotations

from configparser import ConfigParser

from cli_checkout import ROOT

COMPOSERS = {"cli", "bench"}


def contracts() -> dict[str, set[str]]:
    """Return {contract: the rooms on its side that is bound}."""
    parser = ConfigParser()
    parser.read(ROOT / ".importlinter")
    bound = {}
    for section in parser.sections()[1:]:
        modules = parser[section].get("source_modules") or parser[section]["modules"]
        bound[section.rpartition(":")[2]] = {module.split(".")[1] for module in modules.split()}
    return bound


def test_every_room_has_walls() -> None:
    rooms = {path.parent.name for path in (ROOT / "src" / "kilonova").glob("*/__init__.py")} - COMPOSERS
    bound = contracts()
    assert rooms <= bound["model"] | bound["tools"] | bound["composition"], "name the new room in .importlinter"


def test_the_model_may_know_no_room() -> None:
    parser = ConfigParser()
    parser.read(ROOT / ".importlinter")
    forbidden = {line.split(".")[1] for line in parser["importlinter:contract:model"]["forbidden_modules"].split()}
    rooms = {path.parent.name for path in (ROOT / "src" / "kilonova").glob("*/__init__.py")}
    assert rooms - {"model", "bench"} <= forbidden, "name the new room in .importlinter"
