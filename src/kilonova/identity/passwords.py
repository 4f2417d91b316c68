"""Passwords and application secrets: argon2id (19 MiB, t=2, p=1), one at a time, off the loop.

A check takes as long for a user who does not exist. Secrets that we made ourselves hold 512 random bits
and are kept as SHA-256: guessing them is hopeless however fast the hash is.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from kilonova.http.errors import Unavailable
from kilonova.pools import Overloaded, Pools

if TYPE_CHECKING:
    from argon2 import PasswordHasher

MAX_LENGTH = 4096
_TOO_MANY = "Too many log-ins at once; try again."
P = ParamSpec("P")
T = TypeVar("T")


@cache
def _hasher() -> PasswordHasher:
    from argon2 import PasswordHasher

    return PasswordHasher(time_cost=2, memory_cost=19456, parallelism=1)


@cache
def _nobody() -> str:
    """A hash that no password has."""
    return _hasher().hash(secrets.token_bytes(32))


def _hash(secret: str) -> str:
    return _hasher().hash(secret)


def _verify(stored: str, secret: str) -> bool:
    from argon2.exceptions import InvalidHashError, VerificationError

    try:
        return _hasher().verify(stored or _nobody(), secret) and bool(stored)
    except (VerificationError, InvalidHashError):
        return False


class Passwords:
    """Hashes and checks in the pool `password`, in the order of asking."""

    def __init__(self, pools: Pools, waiting: int = 128) -> None:
        """`waiting`: how many may wait for their turn; more get a 503."""
        self._pools, self._limit = pools, waiting
        self._turn = asyncio.Lock()
        self._waiting = 0

    async def hash(self, secret: str) -> str:
        """The hash to keep. Raises http `Unavailable` when too many wait."""
        return await self._run(_no_gate, _hash, secret)

    async def verify(self, stored: str, secret: str, gate: Callable[[], None] | None = None) -> bool:
        """Whether `secret` is the one of `stored`; "" matches nothing and takes as long.

        `gate` is called when its turn has come, with all earlier answers known; what it raises ends it.
        Raises http `Unavailable`.
        """
        if stored.startswith("sha256$"):
            (gate or _no_gate)()
            return hmac.compare_digest(stored, made(secret))
        return await self._run(gate or _no_gate, _verify, stored, secret)

    async def _run(self, gate: Callable[[], None], fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        if self._waiting >= self._limit:
            raise Unavailable(_TOO_MANY)
        self._waiting += 1
        try:
            async with self._turn:
                gate()
                return await self._pools.run("password", fn, *args, **kwargs)
        except Overloaded:
            raise Unavailable(_TOO_MANY) from None
        finally:
            self._waiting -= 1


def _no_gate() -> None:
    """Nothing in the way."""


def new_secret() -> str:
    """A secret of our making: 86 URL-safe characters, 512 bits."""
    return secrets.token_urlsafe(64)


def made(secret: str) -> str:
    """The hash to keep of a secret of our making."""
    return "sha256$" + hashlib.sha256(secret.encode()).hexdigest()
