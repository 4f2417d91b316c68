"""`manage bootstrap` and `token-keys`: the first accounts, flavors and network of a cloud of several processes."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kilonova.cli.errors import CliError

if TYPE_CHECKING:
    from kilonova.config.settings import Settings
    from kilonova.db.open import Databases

SERVICE_FILE = "service-user.conf"
_BOOTSTRAP = """Make the default domain, the projects admin, demo and service, their users, the flavors m1.nano ...
m1.large and the network `private`. Saves clouds.yaml and openrc for clients, and service-user.conf for compute
processes (-c MAIN -c service-user.conf). May be repeated: what is there stays as it is."""


def add(commands: Any, base: argparse.ArgumentParser) -> None:
    made = commands.add_parser(
        "bootstrap", parents=[base], help="first accounts, flavors and network; saves clouds.yaml",
        description=_BOOTSTRAP,
    )  # fmt: skip
    made.add_argument("--url", help="how clients reach the APIs, http://name:port (default: [kilonova] url)")
    made.add_argument("--save", type=Path, metavar="DIR", help="where the files go (default: the cloud's directory)")
    made.add_argument("--renew", action="store_true", help="new passwords for admin, demo and nova: the old ones end")
    made.add_argument("--image", type=Path, metavar="FILE", help="register this disk as a public image")
    made.add_argument("--image-name", default="kilonova-guest", metavar="NAME")
    made.add_argument("--image-format", choices=("qcow2", "raw"), default="qcow2")
    made.set_defaults(act=_bootstrap)

    group = commands.add_parser("token-keys", help="the keys that make and check tokens")
    parts = group.add_subparsers(title="commands", metavar="COMMAND", required=True)
    rotate = parts.add_parser(
        "rotate", parents=[base], help="make the staged key the primary one and stage a new one",
        description="Run it from one machine, no oftener than tokens live (1 h), and copy the folder to the others.",
    )  # fmt: skip
    rotate.set_defaults(act=_rotate)


def _bootstrap(args: argparse.Namespace) -> int:
    from kilonova.cli.compose.connect import folder_of
    from kilonova.cli.manage.opened import on_databases, settings_of

    settings = settings_of(args)
    if settings.keystone_authtoken.external:
        raise CliError("accounts live in the real Keystone of [keystone_authtoken]; make them there")
    url = args.url or settings.kilonova.url
    if not url:
        raise CliError("clouds.yaml needs to know how clients reach the APIs: --url http://name:port", code=2)
    save = args.save or folder_of(settings)
    save.mkdir(mode=0o711, parents=True, exist_ok=True)

    async def work(databases: Databases, settings: Settings) -> dict[str, str]:
        return await _make(args, databases, settings, url, save)

    passwords = on_databases(args, work)
    if not passwords:
        print("The accounts are there already; --renew makes new passwords.")
        return 0
    print(f"Made passwords for {', '.join(sorted(passwords))}.")
    for name in ("clouds.yaml", "openrc", SERVICE_FILE):
        if (save / name).exists():
            print(f"  {save / name}")
    return 0


async def _make(
    args: argparse.Namespace, databases: Databases, settings: Settings, url: str, save: Path
) -> dict[str, str]:
    from kilonova.cli.compose.connect import folder_of
    from kilonova.cli.compose.first import ensure_flavors, service_project
    from kilonova.cli.compose.who import open_who
    from kilonova.identity.bootstrap import bootstrap
    from kilonova.identity.cloudsyaml import write_clients
    from kilonova.image.service import EmbeddedImages
    from kilonova.network.bootstrap import bootstrap_network
    from kilonova.network.service import EmbeddedNetwork
    from kilonova.pools import Pools

    pools = Pools()
    try:
        identity = (await open_who(settings, databases, pools)).embedded
        assert identity is not None
        passwords = await bootstrap(identity, renew=args.renew)
        if passwords.keys() >= {"admin", "demo"}:
            write_clients(save, url, passwords, region=settings.kilonova.region)
        if "nova" in passwords:
            write_service_file(save / SERVICE_FILE, url, passwords["nova"], settings.kilonova.region)
        project = service_project(identity)
        if passwords:
            await ensure_flavors(databases.global_)
            await bootstrap_network(EmbeddedNetwork(databases.global_), project)
        if args.image is not None:
            images = EmbeddedImages(databases.global_, folder_of(settings) / "image-store", pools["files"])
            await images.import_file(
                args.image, args.image_name, {}, True, owner=project, disk_format=args.image_format
            )
            print(f"Registered {args.image} as {args.image_name}.")
        return passwords
    except OSError as error:
        raise CliError(f"{error.filename}: {error.strerror}") from None
    finally:
        pools.close()


def write_service_file(path: Path, url: str, password: str, region: str) -> None:
    """[service_user] as a compute process reads it; readable by its owner only."""
    lines = [
        "[service_user]", f"auth_url = {url.rstrip('/')}/identity/v3", "auth_type = password", "username = nova",
        f"password = {password.replace('$', '$$')}", "user_domain_id = default", "project_name = service",
        "project_domain_id = default", f"region_name = {region}",
    ]  # fmt: skip
    part = path.with_name(f".{path.name}.{os.getpid()}")
    handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write("\n".join([*lines, ""]))
    part.replace(path)


def _rotate(args: argparse.Namespace) -> int:
    from kilonova.cli.compose.who import token_keys
    from kilonova.cli.manage.opened import settings_of
    from kilonova.identity.keyring import Keyring, KeyringError
    from kilonova.identity.service import TOKEN_KEYS

    folder = token_keys(settings_of(args)) / TOKEN_KEYS
    if not folder.is_dir():
        raise CliError(f"there are no token keys in {folder}; the first API process or `bootstrap` makes them")
    try:
        keys = Keyring(folder)
        keys.rotate()
    except KeyringError as error:
        raise CliError(str(error)) from None
    print(f"key {keys.primary.number} makes tokens now; copy {folder} to the other machines")
    return 0
