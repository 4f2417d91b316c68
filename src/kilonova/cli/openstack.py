"""The official client against this cloud: `kilonova openstack [--dir DIR] WORDS...`.

Why: nothing to set, nothing to install by hand. What always holds: an OS_CLOUD that the user set is kept, so
`OS_CLOUD=kilonova-admin ./kilonova openstack ...` is the administrator.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import kilonova
from kilonova.cli import place
from kilonova.cli.errors import CliError


def client_command() -> list[str]:
    """Return the client to run: the checkout's own, else one on PATH (an installed wheel)."""
    own = Path(kilonova.__file__).parents[2] / ".venv-client" / "bin"
    if (own / "openstack").exists():
        return [str(own / "python"), "-I", str(own / "openstack")]
    found = shutil.which("openstack")
    if found is None:
        raise CliError("no `openstack` on PATH; run: pip install python-openstackclient")
    return [found]


def run_words(words: list[str]) -> int:
    folder = place.default_dir()
    if words and words[0].startswith("--dir="):
        folder, words = Path(words[0].partition("=")[2]).absolute(), words[1:]
    elif len(words) > 1 and words[0] == "--dir":
        folder, words = Path(words[1]).absolute(), words[2:]
    clouds = folder / place.CLOUDS
    if not os.access(clouds, os.R_OK):
        said = "can't be read" if clouds.exists() else "isn't there; `kilonova up` makes it"
        raise CliError(f"{clouds} {said}")
    command = client_command()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OS_")}
    kept["OS_CLIENT_CONFIG_FILE"] = str(clouds)
    kept["OS_CLOUD"] = os.environ.get("OS_CLOUD", "kilonova")
    for name in ("OS_COMPUTE_API_VERSION", "OS_PLACEMENT_API_VERSION"):
        if name in os.environ:
            kept[name] = os.environ[name]
    os.execve(command[0], [*command, *words], kept)
