"""Bearer tokens: Fernet, as Keystone's, holding who and what scope but no roles.

A token says only what cannot change: roles, names and whether it still counts are looked up when it is
used. It is never stored anywhere.
"""

from __future__ import annotations

import base64
import secrets
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from kilonova.identity.keyring import Keyring

if TYPE_CHECKING:
    from cryptography.fernet import MultiFernet

METHODS = ("password", "token", "application_credential", "ec2credential")
"""Their places are bits in a token: only ever append."""
_MAX = 1024


class Token(Struct, frozen=True, array_like=True):
    """What a token says. Times in microseconds UTC."""

    user_id: str
    methods: tuple[str, ...]
    scope: str
    """`project`, `domain`, `system` or ``""``."""
    scope_id: str
    issued_at: int
    expires_at: int
    audit_ids: tuple[str, ...]
    """Its own, then that of the first token it came from."""
    epoch: int
    """Sum of the epochs of its user, project and domains when it was made."""
    appcred_id: str = ""

    def __repr__(self) -> str:
        return f"Token(user={self.user_id} {self.scope or 'unscoped'}={self.scope_id} audit={self.audit_ids[0]})"


class _Wire(Struct, frozen=True, array_like=True):
    version: int
    user: bytes
    methods: int
    scope: str
    scope_id: bytes
    issued_at: int
    expires_at: int
    audit: tuple[str, ...]
    epoch: int
    appcred: bytes


class InvalidToken(Exception):
    """Not a token of ours."""


def new_audit_id() -> str:
    """22 URL-safe characters."""
    return base64.urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("=")


def _pack(id_: str) -> bytes:
    """An id in short: one byte says how."""
    if len(id_) == 32:
        try:
            packed = bytes.fromhex(id_)
        except ValueError:
            packed = b""
        if packed.hex() == id_:
            return b"x" + packed
    return b"t" + id_.encode()


def _unpack(packed: bytes) -> str:
    return packed[1:].hex() if packed[:1] == b"x" else packed[1:].decode()


class TokenCodec:
    """Makes and opens tokens with the keys of a `Keyring`."""

    def __init__(self, keys: Keyring) -> None:
        self.keys = keys
        self._fernet: MultiFernet | None = None
        self._made_of: object = None
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(_Wire).decode

    def __repr__(self) -> str:
        return f"TokenCodec({self.keys!r})"

    def _ring(self) -> MultiFernet:
        if self._fernet is None or self._made_of is not self.keys.keys:
            from cryptography.fernet import Fernet, MultiFernet

            self._made_of = self.keys.keys
            self._fernet = MultiFernet([Fernet(key.text) for key in self.keys.keys])
        return self._fernet

    def seal(self, token: Token) -> str:
        """The text that clients carry, without padding."""
        self.keys.reload()
        bits = sum(1 << METHODS.index(method) for method in token.methods)
        wire = _Wire(
            1, _pack(token.user_id), bits, token.scope, _pack(token.scope_id), token.issued_at, token.expires_at,
            token.audit_ids, token.epoch, _pack(token.appcred_id),
        )  # fmt: skip
        return self._ring().encrypt(self._encode(wire)).decode().rstrip("=")

    def open(self, text: str) -> Token:
        """What a token says, whether it still counts or not; InvalidToken when it is none of ours."""
        if not 0 < len(text) <= _MAX or not text.isascii():
            raise InvalidToken
        data = text.encode() + b"=" * (-len(text) % 4)
        try:
            wire = self._decode(self._decrypt(data))
        except (msgspec.DecodeError, ValueError):
            raise InvalidToken from None
        methods = tuple(name for bit, name in enumerate(METHODS) if wire.methods >> bit & 1)
        return Token(
            _unpack(wire.user), methods, wire.scope, _unpack(wire.scope_id), wire.issued_at, wire.expires_at,
            wire.audit, wire.epoch, _unpack(wire.appcred),
        )  # fmt: skip

    def _decrypt(self, data: bytes) -> bytes:
        from cryptography.fernet import InvalidToken as Refused

        try:
            return self._ring().decrypt(data)
        except Refused:
            if not self.keys.reload():
                raise InvalidToken from None
        try:
            return self._ring().decrypt(data)
        except Refused:
            raise InvalidToken from None
