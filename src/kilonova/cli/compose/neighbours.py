"""Which filling each port gets: the embedded companion over this cloud's databases, or the configured real service."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kilonova.cli.compose.connect import folder_of
from kilonova.config.settings import Settings
from kilonova.db.open import Databases
from kilonova.http.auth import TokenValidator
from kilonova.pools import Pools

if TYPE_CHECKING:
    from kilonova.identity.client import KeystoneValidator
    from kilonova.identity.service import Identity


@dataclass
class Who:
    """Who checks tokens: our own accounts (`embedded`), or a real Keystone (`real`)."""

    validator: TokenValidator
    embedded: Identity | None = None
    real: KeystoneValidator | None = None

    async def close(self) -> None:
        if self.real is not None:
            await self.real.close()
            await self.real.session.close()


def token_keys(settings: Settings) -> Path:
    """The folder of the identity keys, shared by all processes that make or check tokens."""
    chosen = settings.kilonova.token_keys
    return Path(chosen).absolute() if chosen else folder_of(settings) / "keys"


async def open_who(settings: Settings, databases: Databases, pools: Pools) -> Who:
    """Raises KeyringError, DatabaseError."""
    if settings.keystone_authtoken.external:
        from kilonova.identity.client import KeystoneValidator
        from kilonova.identity.session import KeystoneSession

        real = KeystoneValidator(KeystoneSession(settings.keystone_authtoken))
        return Who(real, real=real)
    from kilonova.identity.service import open_identity

    # Processes that share the keys would rotate them all at the same time, past each other: `manage` rotates.
    identity = await open_identity(
        databases.global_, token_keys(settings), pools, base_url=settings.kilonova.url,
        region=settings.kilonova.region, rotate_s=0,
    )  # fmt: skip
    return Who(identity.validator, embedded=identity)
