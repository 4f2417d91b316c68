"""The embedded identity service as one object: what `cli` opens, runs, and hands to others.

    identity = await open_identity(databases.global_, folder, pools, base_url="http://127.0.0.1:8774")
    await bootstrap(identity)
    app = HttpApp({"/identity": IdentityFace(identity), ...});  group.create_task(identity.run())
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kilonova.db.database import Database
from kilonova.identity.catalog import Catalog
from kilonova.identity.directory import Directory
from kilonova.identity.issue import HOUR_US
from kilonova.identity.keyring import Keyring, KeyringError
from kilonova.identity.passwords import Passwords
from kilonova.identity.rules import identity_rules
from kilonova.identity.seal import Seal
from kilonova.identity.throttle import Throttle
from kilonova.identity.tokens import TokenCodec
from kilonova.identity.validator import EmbeddedIdentity
from kilonova.log import get_logger
from kilonova.policy.enforcer import Enforcer
from kilonova.pools import Overloaded, Pools

log = get_logger(__name__)
TOKEN_KEYS, CREDENTIAL_KEYS = "fernet-keys", "credential-keys"
_LOOK_S = 600.0


@dataclass(slots=True, kw_only=True)
class Identity:
    """The parts of the service. `validator` is what other faces authenticate with."""

    directory: Directory
    validator: EmbeddedIdentity
    codec: TokenCodec
    seal: Seal
    passwords: Passwords
    catalog: Catalog
    policy: Enforcer
    pools: Pools
    throttle: Throttle = field(default_factory=Throttle)
    validity_us: int = HOUR_US
    rotate_s: float = 24 * 3600.0
    """How often token keys rotate; 0: never by itself (several machines copy them from one)."""

    async def run(self) -> None:
        """Keep the data fresh and the keys young, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.directory.run(), name="identity-refresh")
            if self.rotate_s:
                group.create_task(self._rotate(), name="identity-keys")

    async def _rotate(self) -> None:
        """A key stays known for as long as its tokens live: it is the primary, then one more turn."""
        age = max(self.rotate_s, self.validity_us / 1e6)
        while True:
            await asyncio.sleep(min(age, _LOOK_S))
            try:
                if await self.pools.run("files", self.codec.keys.rotate, age):
                    log.info("token keys are rotated")
            except (KeyringError, Overloaded) as error:
                log.warning("token keys are not rotated: %s", error)


async def open_identity(
    db: Database,
    folder: Path,
    pools: Pools,
    *,
    base_url: str | None = None,
    region: str = "RegionOne",
    overrides: Mapping[str, str] | None = None,
    validity_s: float = 3600.0,
    rotate_s: float = 24 * 3600.0,
    policy: Enforcer | None = None,
) -> Identity:
    """Open the service over the global database, with its keys in `folder` (made if missing).

    `overrides`: service type -> URL of a real neighbour. Raises KeyringError, DatabaseError.
    """
    directory = Directory(db)
    codec = TokenCodec(Keyring(folder / TOKEN_KEYS))
    identity = Identity(
        directory=directory,
        validator=EmbeddedIdentity(directory, codec),
        codec=codec,
        seal=Seal(Keyring(folder / CREDENTIAL_KEYS)),
        passwords=Passwords(pools),
        catalog=Catalog(region, overrides, base_url),
        policy=policy or Enforcer(defaults=identity_rules(), default_rule="admin_required"),
        pools=pools,
        validity_us=int(validity_s * 1_000_000),
        rotate_s=rotate_s,
    )
    await directory.start()
    return identity
