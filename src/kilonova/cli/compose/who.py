"""Who checks tokens, and whose account reaches the services around: our own accounts, or a real Keystone's.

An account is looked for in the service's own section, then in [service_user], then in [keystone_authtoken], as
operators write them; where this process is the identity service itself it needs none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from kilonova.cli.compose.connect import folder_of, where
from kilonova.cli.errors import CliError
from kilonova.config.sections_neighbours import Session
from kilonova.config.settings import Settings
from kilonova.http.auth import TokenValidator
from kilonova.http.neighbour import OwnTokens

if TYPE_CHECKING:
    from kilonova.db.open import Databases
    from kilonova.identity.client import KeystoneValidator
    from kilonova.identity.service import Identity
    from kilonova.identity.session import KeystoneSession
    from kilonova.pools import Pools


def account(settings: Settings, section: Session) -> Session | None:
    """The account that reaches the service of `section`; None: none is configured."""
    for each in (section, settings.service_user, settings.keystone_authtoken):
        if each.auth_url:
            return each
    return None


class Sessions:
    """One log-in an account, however many services it reaches."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._open: list[KeystoneSession] = []

    def of(self, account: Session) -> KeystoneSession:
        """The session of an account (made when first asked for); the same options are the same account."""
        from kilonova.identity.session import KeystoneSession

        made = KeystoneSession(account)
        for each in self._open:
            if each.url == made.url and _login(each.account) == _login(account):
                return each
        self._open.append(made)
        return made

    def tokens(self, name: str, section: Session, identity: Identity | None) -> tuple[OwnTokens, Session]:
        """Where the tokens for a service come from, and whose options count. Raises CliError."""
        found = account(self._settings, section)
        if found is not None:
            return self.of(found), found
        if identity is not None:
            from kilonova.identity.own_token import OwnToken

            return OwnToken(identity), section
        raise CliError(f"{where(self._settings, name, 'auth_url')}: no account to reach the service with")

    async def close(self) -> None:
        for each in self._open:
            await each.close()


def _login(account: Session) -> tuple[object, ...]:
    return tuple(getattr(account, name) for name in Session.__struct_fields__ if name not in _ABOUT_ENDPOINTS)


_ABOUT_ENDPOINTS = (
    "auth_url", "endpoint_override", "service_type", "region_name", "valid_interfaces", "connect_retries", "timeout",
)  # fmt: skip


@dataclass
class Who:
    """Who checks tokens: our own accounts (`embedded`), or a real Keystone (`real`)."""

    validator: TokenValidator
    sessions: Sessions
    embedded: Identity | None = None
    real: KeystoneValidator | None = None
    auth_uri: str = field(default="")
    """Where a caller without a token is sent; "": to this port's own identity service."""

    async def close(self) -> None:
        if self.real is not None:
            await self.real.close()
        await self.sessions.close()


def token_keys(settings: Settings) -> Path:
    """The folder of the identity keys, shared by all processes that make or check tokens."""
    chosen = settings.kilonova.token_keys
    return Path(chosen).absolute() if chosen else folder_of(settings) / "keys"


def is_external(settings: Settings) -> bool:
    """Whether a real Keystone is configured."""
    return settings.keystone_authtoken.external


async def open_who(
    settings: Settings, databases: Databases, pools: Pools, *, keys: Path | None = None, base_url: str | None = None,
    rotate_s: float = 0, overrides: Mapping[str, str] | None = None,
) -> Who:  # fmt: skip
    """`overrides`: service type -> URL of a real neighbour. Raises KeyringError, DatabaseError.

    Processes that share the keys would rotate them all at the same time, past each other (`manage` does it): only
    one that is alone gives `rotate_s`.
    """
    sessions = Sessions(settings)
    section = settings.keystone_authtoken
    if is_external(settings):
        from kilonova.identity.client import KeystoneValidator

        real = KeystoneValidator(sessions.of(section))
        return Who(real, sessions, real=real, auth_uri=section.www_authenticate_uri or real.session.url)
    from kilonova.identity.service import open_identity

    base = base_url or settings.kilonova.url
    identity = await open_identity(
        databases.global_, keys or token_keys(settings), pools, base_url=base, region=settings.kilonova.region,
        rotate_s=rotate_s, overrides=overrides,
    )  # fmt: skip
    return Who(identity.validator, sessions, embedded=identity, auth_uri=f"{base}/identity" if base else "")
