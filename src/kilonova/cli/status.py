"""Show what runs, where, and since when. Exit code 0 when the cloud answers, 1 otherwise."""

from __future__ import annotations

import argparse
import http.client
import json
import ssl
import time
from pathlib import Path
from urllib.parse import urlsplit

from kilonova.cli import place, running, state


def add_arguments(parser: argparse.ArgumentParser) -> None:
    place.add_dir_argument(parser)
    parser.add_argument("--json", action="store_true", help="for programs")


def is_answering(url: str, folder: Path) -> bool:
    """Whether `url`/healthcheck says 200 within two seconds."""
    parts = urlsplit(url)
    try:
        if parts.scheme == "https":
            authority = folder / "ca.pem"
            trust = ssl.create_default_context(cafile=str(authority) if authority.exists() else None)
            line: http.client.HTTPConnection = http.client.HTTPSConnection(
                parts.hostname or "", parts.port, timeout=2, context=trust
            )
        else:
            line = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=2)
        try:
            line.request("GET", "/healthcheck")
            return line.getresponse().status == 200
        finally:
            line.close()
    except (OSError, http.client.HTTPException):
        return False


def look(folder: Path) -> dict[str, object]:
    """Return what is known of the cloud in `folder`, `state` being running, starting, silent or stopped."""
    pid = running.holder(folder)
    facts = state.read(folder)
    if pid is None:
        return {"state": "stopped", "dir": str(folder), "known": folder.exists()}
    if not facts.get("url"):
        return {"state": "starting", "dir": str(folder), "pid": pid}
    answers = is_answering(str(facts["url"]), folder)
    return {"state": "running" if answers else "silent", "dir": str(folder), "pid": pid, **facts}


def run(args: argparse.Namespace) -> int:
    facts = look(args.dir)
    if args.json:
        print(json.dumps(facts))
    elif facts["state"] == "stopped":
        print(f"No cloud runs in {args.dir}" + ("" if facts["known"] else ", and none was made there"))
    else:
        started = facts.pop("started_at", None)
        if isinstance(started, int):
            facts["since"] = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(started // 1_000_000))
        facts.pop("notes", None)  # true when it started
        for name, value in facts.items():
            print(f"{name:<9} {value}")
    return 0 if facts["state"] == "running" else 1
