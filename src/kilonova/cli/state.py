"""DIR/state.json: what a running cloud says of itself to other commands.

What always holds: it is written whole (a rename), by the process that holds DIR/lock; readers take it for
true only while that lock is held. Fields: url, driver, verdict (how guests run and why), started_at
(microseconds UTC), version, notes (lines for whoever starts it).
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from kilonova.cli import place


def write(folder: Path, **facts: Any) -> None:
    """Replace DIR/state.json by `facts`."""
    fresh = folder / f"{place.STATE}.new"
    fresh.write_text(json.dumps(facts, indent=1) + "\n")
    os.chmod(fresh, 0o644)
    fresh.replace(folder / place.STATE)


def read(folder: Path) -> dict[str, Any]:
    """Return the facts of DIR/state.json; empty when there are none or they can't be read."""
    try:
        facts = json.loads((folder / place.STATE).read_text())
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}
