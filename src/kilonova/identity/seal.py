"""Secrets that must be used again (EC2 keys): AES-GCM under a key outside the database.

A sealed text is base64 of: key number (4 bytes), nonce (12), ciphertext with tag. It is bound to a
context (kind and id), so that one cannot be moved to another's place.
"""

from __future__ import annotations

import base64
import secrets
import struct

from kilonova.identity.keyring import Keyring

_number = struct.Struct(">I")


class SealBroken(Exception):
    """Sealed with a key that is not here any more, or tampered with."""


class Seal:
    """Seals and opens with the keys of a `Keyring`."""

    def __init__(self, keys: Keyring) -> None:
        self.keys = keys

    def __repr__(self) -> str:
        return f"Seal({self.keys!r})"

    def seal(self, secret: str, context: str) -> str:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self.keys.reload()
        key, nonce = self.keys.primary, secrets.token_bytes(12)
        sealed = AESGCM(key.raw).encrypt(nonce, secret.encode(), context.encode())
        return base64.b64encode(_number.pack(key.number) + nonce + sealed).decode()

    def open(self, text: str, context: str) -> str:
        """The secret; SealBroken."""
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        try:
            data = base64.b64decode(text, validate=True)
            (number,) = _number.unpack_from(data)
        except (ValueError, struct.error):
            raise SealBroken("not a sealed secret") from None
        key = self._key(number)
        try:
            return AESGCM(key).decrypt(data[4:16], data[16:], context.encode()).decode()
        except (InvalidTag, ValueError):
            raise SealBroken(f"the secret does not open with key {number}") from None

    def _key(self, number: int) -> bytes:
        for _ in range(2):
            for key in self.keys.keys:
                if key.number == number:
                    return key.raw
            self.keys.reload()
        raise SealBroken(f"key {number} is not here any more")
