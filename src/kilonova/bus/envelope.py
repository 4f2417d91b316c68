"""What travels: one signed envelope around every message, and the guard against replays.

On the wire: one byte n, n bytes of signature, then the msgpack of `Envelope` that the signature covers.
Receivers ignore fields they do not know (a newer sender appends). An envelope for somebody names both the
receiver and the receiver's incarnation, so one recorded before a restart is worthless after it; one
for everybody (wake, fan-out) is harmless when repeated, by contract.

Must not know transports, keys or what payloads mean.
"""

from __future__ import annotations

import itertools
import os
import time
from enum import IntEnum

import msgspec
from msgspec import Struct

VERSION = 1
OVERHEAD = 4096
"""Bytes an envelope may add to its payload."""


class Kind(IntEnum):
    """What an envelope is; the number travels."""

    HELLO = 0
    WAKE = 1
    FANOUT = 2
    CALL = 3
    ASK = 4
    REPORT = 5
    ACCEPTED = 10
    RESULT = 11
    ANSWER = 12
    ACK = 13
    ERROR = 14


REPLIES = frozenset((Kind.ACCEPTED, Kind.RESULT, Kind.ANSWER, Kind.ACK, Kind.ERROR))


class Envelope(Struct, frozen=True, array_like=True, gc=False):
    """One message. Strings are empty where they mean nothing for the kind."""

    version: int
    kind: Kind
    sender: str
    role: str
    incarnation: str
    nonce: int
    """+ 1 with each envelope of this incarnation."""
    ttl: float
    """Seconds the receiver may let it wait before it drops it unread."""
    speaker: str
    """The host a process that is many hosts speaks as."""
    to: str
    to_incarnation: str
    name: str
    """Topic or method."""
    exchange: int
    """Ties a reply to its question; 0 when there is no reply."""
    payload: bytes


class Failure(Struct, frozen=True, array_like=True):
    """Payload of an ERROR."""

    code: str
    message: str
    retry: bool = False


class Identity(Struct, frozen=True, kw_only=True):
    """Who a process is on the bus."""

    name: str
    role: str
    incarnation: str
    speaks_for: tuple[str, ...] = ()


_serial = itertools.count()


def new_incarnation() -> str:
    """Return a fresh incarnation; later ones sort after earlier ones while the clock does not step back."""
    return f"{time.time_ns() // 1000:014x}-{next(_serial) & 0xFFFF:04x}{os.urandom(4).hex()}"


def identity(name: str, role: str, speaks_for: tuple[str, ...] = ()) -> Identity:
    """Return an identity that begins now."""
    return Identity(name=name, role=role, incarnation=new_incarnation(), speaks_for=speaks_for)


encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Envelope).decode
decode_failure = msgspec.msgpack.Decoder(Failure).decode


class BadEnvelope(Exception):
    """The bytes are no envelope: dropped and counted, never answered."""


def join(signature: bytes, body: bytes) -> bytes:
    """Return the wire form of a signed body."""
    return bytes((len(signature),)) + signature + body


def split(data: bytes) -> tuple[bytes, bytes]:
    """Return (signature, body). Raises BadEnvelope."""
    end = 1 + data[0] if data else 0
    if not 1 < end < len(data):
        raise BadEnvelope("too short")
    return data[1:end], data[end:]


def decode(body: bytes) -> Envelope:
    """Raises BadEnvelope."""
    try:
        found = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadEnvelope(str(error)) from None
    if found.version != VERSION:
        raise BadEnvelope(f"version {found.version}")
    return found


class ReplayGuard:
    """Lets each (sender, incarnation, nonce) pass once, in any order within a window.

    Remembers a few incarnations a sender, so that a restarted or doubly started one is not mistaken for a replay.
    """

    WINDOW = 4096
    INCARNATIONS = 4

    def __init__(self) -> None:
        self._seen: dict[str, dict[str, list[int]]] = {}

    def passes(self, sender: str, incarnation: str, nonce: int) -> bool:
        """Tell whether this nonce is new, and remember it."""
        lives = self._seen.get(sender)
        if lives is None:
            lives = self._seen[sender] = {}
        life = lives.get(incarnation)
        if life is None:
            if len(lives) >= self.INCARNATIONS:
                del lives[next(iter(lives))]
            lives[incarnation] = [nonce, 1]
            return True
        ahead = nonce - life[0]
        if ahead > 0:
            life[1] = ((life[1] << ahead) | 1) & _MASK if ahead < self.WINDOW else 1
            life[0] = nonce
            return True
        if ahead <= -self.WINDOW:
            return False
        bit = 1 << -ahead
        if life[1] & bit:
            return False
        life[1] |= bit
        return True


_MASK = (1 << ReplayGuard.WINDOW) - 1
