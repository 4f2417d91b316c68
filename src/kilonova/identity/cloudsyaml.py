"""DIR/clouds.yaml and DIR/openrc: how clients find this cloud and log in.

Each file is replaced as a whole and readable by its owner only. YAML is written by hand: JSON strings are
YAML, and the YAML library is never imported on the way up.
"""

from __future__ import annotations

import json
import os
import secrets
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CLOUDS = "clouds.yaml"
OPENRC = "openrc"
_NOBODY = ("OS_CLOUD", "OS_TOKEN", "OS_PROJECT_ID", "OS_USER_ID", "OS_SYSTEM_SCOPE", "OS_DOMAIN_NAME", "OS_DOMAIN_ID")


def write_clients(
    folder: Path, base_url: str, passwords: Mapping[str, str], *, region: str = "RegionOne", cacert: str | None = None
) -> None:
    """Write both files. `passwords` holds those of `admin` and `demo`; `base_url` is ``http://host:port``."""
    auth_url = f"{base_url.rstrip('/')}/identity/v3"
    demo = _account(auth_url, "demo", passwords["demo"], project_name="demo")
    admin = _account(auth_url, "admin", passwords["admin"], project_name="admin")
    system = _account(auth_url, "admin", passwords["admin"], system_scope="all")
    clouds = {
        name: {
            "auth": auth, "region_name": region, "interface": "public", "identity_api_version": "3",
            **({"cacert": cacert} if cacert else {}),
        }
        for name, auth in (("kilonova", demo), ("kilonova-admin", admin), ("kilonova-system", system))
    }  # fmt: skip
    _replace(folder / CLOUDS, "\n".join(_yaml({"clouds": clouds})) + "\n")
    exports = {
        "OS_AUTH_TYPE": "password", "OS_IDENTITY_API_VERSION": "3", "OS_REGION_NAME": region, "OS_INTERFACE": "public",
        **{f"OS_{key.upper()}": value for key, value in demo.items()},
        **({"OS_CACERT": cacert} if cacert else {}),
    }  # fmt: skip
    lines = [f"unset {' '.join(_NOBODY)}", *(f"export {key}={shlex.quote(value)}" for key, value in exports.items())]
    _replace(folder / OPENRC, "\n".join(lines) + "\n")


def _account(auth_url: str, name: str, password: str, **scope: str) -> dict[str, str]:
    domains = {"user_domain_name": "Default", **({"project_domain_name": "Default"} if "project_name" in scope else {})}
    return {"auth_url": auth_url, "username": name, "password": password, **scope, **domains}


def _yaml(value: Mapping[str, Any], indent: str = "") -> list[str]:
    lines = []
    for key, each in value.items():
        if isinstance(each, Mapping):
            lines += [f"{indent}{key}:", *_yaml(each, indent + "  ")]
        else:
            lines.append(f"{indent}{key}: {json.dumps(each)}")
    return lines


def _replace(path: Path, content: str) -> None:
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
