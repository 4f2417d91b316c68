"""How envelopes are proven and answers sealed: the seam between the bus's core and its keys.

`Trust` has two forms: the enrolled Ed25519 keys (`enrolment.KeyTrust`), used wherever bytes leave the process, and
`HubTrust` for the memory driver. The latter stands in for signatures by a keyed BLAKE2b with one key a
sender, derived from a secret that a hub draws when it is made and that never leaves the process. Why that is as
strong there: sender and receiver share one address space, so whoever could read the hub's secret could read every
private key as well, and nobody outside can put bytes into the queue. It still catches what it must catch in one
process: a component that speaks under another's name without having been given its bus. Cost: 1 us instead of 110.
"""

from __future__ import annotations

import os
from hashlib import blake2b
from hmac import compare_digest
from typing import Protocol

from msgspec import Struct

from kilonova.bus.envelope import Identity


class Member(Struct, frozen=True):
    """What is enrolled about a process."""

    role: str
    speaks_for: tuple[str, ...] = ()


class Trust(Protocol):
    """One process's keys and what it knows of the others'."""

    def sign(self, body: bytes) -> bytes: ...

    def check(self, sender: str, body: bytes, signature: bytes) -> Member | None:
        """Return who `sender` is if it signed `body`, else None."""

    def seal(self, name: str, secret: bytes, context: bytes) -> bytes:
        """Encrypt for one process; `context` must be the same when it is opened."""

    def open(self, sealed: bytes, context: bytes) -> bytes:
        """Decrypt what was sealed for this process. Raises ValueError."""


class HubSecret:
    """What a hub knows: its secret and who has joined."""

    def __init__(self) -> None:
        self._key = os.urandom(32)
        self.members: dict[str, Member] = {}
        self._keys: dict[str, bytes] = {}

    def key(self, name: str, purpose: bytes = b"sign") -> bytes:
        """Return the 32-byte key of one member."""
        return blake2b(name.encode(), key=self._key, digest_size=32, person=purpose).digest()

    def sign_key(self, name: str) -> bytes:
        """Like `key`, remembered for members."""
        found = self._keys.get(name)
        if found is None:
            found = self._keys[name] = self.key(name)
        return found


class HubTrust:
    """`Trust` among the buses of one memory hub."""

    def __init__(self, secret: HubSecret, identity: Identity) -> None:
        self._secret, self._name = secret, identity.name
        self._sign = secret.sign_key(identity.name)
        secret.members[identity.name] = Member(identity.role, identity.speaks_for)

    def sign(self, body: bytes) -> bytes:
        return blake2b(body, key=self._sign, digest_size=16).digest()

    def check(self, sender: str, body: bytes, signature: bytes) -> Member | None:
        member = self._secret.members.get(sender)
        if member is None:
            return None
        proof = blake2b(body, key=self._secret.sign_key(sender), digest_size=16).digest()
        return member if compare_digest(proof, signature) else None

    def seal(self, name: str, secret: bytes, context: bytes) -> bytes:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        nonce = os.urandom(12)
        return nonce + AESGCM(self._secret.key(name, b"seal")).encrypt(nonce, secret, context)

    def open(self, sealed: bytes, context: bytes) -> bytes:
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        try:
            return AESGCM(self._secret.key(self._name, b"seal")).decrypt(sealed[:12], sealed[12:], context)
        except InvalidTag:
            raise ValueError("not sealed for this process") from None
