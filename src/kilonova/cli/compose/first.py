"""What a first start makes: accounts, flavors, a network, the guest image, the files for clients."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from kilonova.db.database import Database, Tx
from kilonova.db.open import Databases
from kilonova.db.queries import flavors
from kilonova.db.statement import Statement
from kilonova.identity.bootstrap import bootstrap
from kilonova.identity.cloudsyaml import CLOUDS, write_clients
from kilonova.identity.service import Identity
from kilonova.image.service import EmbeddedImages
from kilonova.log import get_logger
from kilonova.network.bootstrap import bootstrap_network
from kilonova.network.service import EmbeddedNetwork

if TYPE_CHECKING:
    from kilonova.cli.compose.neighbours import Neighbours
    from kilonova.cli.compose.watch import Watch
    from kilonova.cli.compose.whole_plan import Plan

log = get_logger(__name__)

FLAVORS = (
    ("1", "m1.nano", 1, 64, 1),
    ("2", "m1.micro", 1, 128, 1),
    ("3", "m1.tiny", 1, 512, 1),
    ("4", "m1.small", 1, 2048, 20),
    ("5", "m1.medium", 2, 4096, 40),
    ("6", "m1.large", 4, 8192, 80),
)
"""(id, name, vcpus, MiB, GiB) as everybody knows them from DevStack."""
GUEST_IMAGE = "kilonova-guest"
_MARK = "first-start.done"
_OURS = {"compute": "/compute/v2.1", "placement": "/placement"}
_MADE = Statement("SELECT COUNT(*) FROM flavors")


async def first_start(
    plan: Plan, identity: Identity, databases: Databases, images: EmbeddedImages | None,
    networks: EmbeddedNetwork | None,
) -> None:  # fmt: skip
    """Make what is missing; later starts find it made and cost a few reads. What a real service holds is left to it."""
    lost = not (plan.folder / CLOUDS).exists()
    passwords = await bootstrap(identity)
    if lost and "admin" not in passwords:
        log.warning("clouds.yaml is gone: the accounts get new passwords")
        passwords = await bootstrap(identity, renew=True)
    if passwords.keys() >= {"admin", "demo"}:
        write_clients(plan.folder, plan.url, passwords, region=identity.catalog.region, cacert=plan.cacert)
    else:
        point_clients_at(plan)
    if passwords:
        await ensure_flavors(databases.global_)
        if networks is not None:
            await bootstrap_network(networks, service_project(identity))
    await _guest_image(plan, images, service_project(identity))


async def first_start_with_keystone(plan: Plan, around: Neighbours, watch: Watch, databases: Databases) -> None:
    """The same where accounts are a real Keystone's: once it answers, for it knows the cloud's own project."""
    assert around.who.real is not None
    session = around.who.real.session
    mark = plan.folder / _MARK
    if not mark.exists():
        await ensure_flavors(databases.global_)
    await watch.seen["Keystone"].wait()
    project = await session.project_id()
    if not project:
        log.warning("the account of [keystone_authtoken] has no project: no network and no image are made for it")
        return
    if not mark.exists() and around.own_networks is not None:
        await bootstrap_network(around.own_networks, project)
    mark.touch()
    await _guest_image(plan, around.own_images, project)
    for kind, path in _OURS.items():
        try:
            await session.endpoint(kind)
        except LookupError:
            log.warning("the catalog of %s has no %s: clients find it at %s%s", session.url, kind, plan.url, path)


async def _guest_image(plan: Plan, images: EmbeddedImages | None, owner: str) -> None:
    if images is None or plan.guest_image is None:
        return
    await images.import_file(
        plan.guest_image, GUEST_IMAGE, {"os_distro": "kilonova", "hw_rng_model": "virtio"}, True,
        owner=owner, min_ram=plan.guest_min_ram, disk_format=plan.guest_image_format,
    )  # fmt: skip


async def ensure_flavors(db: Database) -> None:
    """Make the first flavors where there are none."""
    row = await db.fetch_one(_MADE, {})
    if row is not None and row[0] == 0:
        await db.write(_make_flavors, time.time_ns() // 1000)


def service_project(identity: Identity) -> str:
    """The id of the cloud's own project."""
    from kilonova.identity.records import DEFAULT_DOMAIN, Project

    project = identity.directory.state.named(Project, "service", DEFAULT_DOMAIN)
    return project.id if project is not None else ""


def point_clients_at(plan: Plan) -> None:
    """The cloud may have moved to another address: keep the clients' files true."""
    import re

    for name in (CLOUDS, "openrc"):
        path = plan.folder / name
        try:
            text = path.read_text()
        except OSError:
            continue
        fresh = re.sub(r"https?://[^\s\"']+?/identity/v3", f"{plan.url}/identity/v3", text)
        if fresh != text:
            part = path.with_name(f"{name}.new")
            part.touch(mode=0o600)
            part.write_text(fresh)
            part.replace(path)


async def _make_flavors(tx: Tx, now: int) -> Any:
    for flavor_id, name, vcpus, memory_mb, root_gb in FLAVORS:
        await flavors.insert(
            tx,
            flavors.FlavorRow(
                flavor_id=flavor_id, name=name, vcpus=vcpus, memory_mb=memory_mb, root_gb=root_gb, created_at=now
            ),
        )
