"""Who belongs to this cloud's queue: a directory of public keys, and one private seed a process.

`keys/NAME.key` (mode 0600) is 32 random bytes in hex and never leaves its host; `keys/enrolled/NAME.json` is what the
others must know: role, the hosts it may speak for, public keys. From the seed come three unrelated keys: Ed25519 to
sign, X25519 to open what is sealed for us, Curve25519 for ZeroMQ's CURVE. Copying a public file
enrols, deleting it revokes; both act within a second in running processes. Files are replaced, never edited in place.
"""

from __future__ import annotations

import os
import re
from hashlib import blake2b
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from msgspec import Struct

from kilonova.bus.api import ROLES
from kilonova.bus.envelope import VERSION
from kilonova.bus.trust import Member

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")


class EnrolmentError(Exception):
    """A key or a record is missing, unreadable or contradicts itself. The message says what to do."""


class Enrolled(Struct, frozen=True, kw_only=True):
    """One public record. Keys are 32 bytes (base64 in the file)."""

    name: str
    role: str
    sign: bytes
    seal: bytes
    curve: bytes
    speaks_for: tuple[str, ...] = ()
    """More host names it may report and ask as; a trailing `*` stands for any ending."""
    address: str = ""
    """host:port where a conductor is dialled."""
    versions: tuple[int, int] = (VERSION, VERSION)
    """Oldest and newest envelope version it understands."""


class Keys:
    """A process's private keys."""

    def __init__(self, seed: bytes) -> None:
        self._seed = seed
        self.sign = Ed25519PrivateKey.from_private_bytes(self._derive(b"sign"))
        self.seal = X25519PrivateKey.from_private_bytes(self._derive(b"seal"))
        self.curve = self._derive(b"curve")

    def _derive(self, purpose: bytes) -> bytes:
        return blake2b(key=self._seed, person=b"kilonova-bus", salt=purpose, digest_size=32).digest()

    def public(self, name: str, role: str, speaks_for: tuple[str, ...] = (), address: str = "") -> Enrolled:
        """Return the record that enrols the holder of these keys."""
        return Enrolled(
            name=name,
            role=role,
            sign=self.sign.public_key().public_bytes_raw(),
            seal=self.seal.public_key().public_bytes_raw(),
            curve=X25519PrivateKey.from_private_bytes(self.curve).public_key().public_bytes_raw(),
            speaks_for=speaks_for,
            address=address,
        )


def create_keys(keys: Path, name: str) -> Keys:
    """Return the keys of `name`, drawn and kept in `keys/NAME.key` if there are none yet."""
    _check_name(name)
    path = keys / f"{name}.key"
    keys.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not path.exists():
        _write(path, os.urandom(32).hex().encode() + b"\n", 0o600)
    return load_keys(keys, name)


def load_keys(keys: Path, name: str) -> Keys:
    """Read the keys of `name`. Raises EnrolmentError."""
    _check_name(name)
    path = keys / f"{name}.key"
    try:
        seed = bytes.fromhex(path.read_text().strip())
    except OSError as error:
        raise EnrolmentError(f"no key for {name} ({path}: {error.strerror}): enrol it first") from None
    except ValueError:
        raise EnrolmentError(f"{path} does not hold 32 bytes in hex") from None
    if len(seed) != 32:
        raise EnrolmentError(f"{path} does not hold 32 bytes in hex")
    if path.stat().st_mode & 0o077:
        raise EnrolmentError(f"{path} can be read by others: chmod 600 it")
    return Keys(seed)


def enrol(keys: Path, record: Enrolled) -> None:
    """Put a public record into the directory, replacing an older one. Raises EnrolmentError."""
    _check_name(record.name)
    if record.role not in ROLES:
        raise EnrolmentError(f"no such role: {record.role}")
    if record.speaks_for and record.role != "host":
        raise EnrolmentError("only a host's process may speak for hosts")
    folder = keys / "enrolled"
    folder.mkdir(parents=True, exist_ok=True, mode=0o755)
    _write(folder / f"{record.name}.json", msgspec.json.format(msgspec.json.encode(record)) + b"\n", 0o644)


def revoke(keys: Path, name: str) -> None:
    """Take a record out of the directory; none there is success."""
    _check_name(name)
    (keys / "enrolled" / f"{name}.json").unlink(missing_ok=True)


class Directory:
    """The enrolled records, read again when the folder changes."""

    def __init__(self, keys: Path) -> None:
        self._folder = keys / "enrolled"
        self._stamp = -1
        self._records: dict[str, Enrolled] = {}
        self._public: dict[str, tuple[Member, Ed25519PublicKey]] = {}
        self._curves: dict[bytes, str] = {}
        self.refresh()

    def refresh(self) -> bool:
        """Read what changed (one stat if nothing did); tell whether anything did."""
        try:
            stamp = self._folder.stat().st_mtime_ns
        except OSError:
            stamp = 0
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        decode = msgspec.json.Decoder(Enrolled).decode
        records: dict[str, Enrolled] = {}
        for path in sorted(self._folder.glob("*.json")) if stamp else ():
            try:
                record = decode(path.read_bytes())
                Ed25519PublicKey.from_public_bytes(record.sign)
            except (OSError, ValueError):
                continue  # a record that cannot be read enrols nobody
            if record.name == path.stem and record.role in ROLES:
                records[record.name] = record
        self._records = records
        self._public = {
            name: (Member(record.role, record.speaks_for), Ed25519PublicKey.from_public_bytes(record.sign))
            for name, record in records.items()
        }
        self._curves = {record.curve: name for name, record in records.items()}
        return True

    def get(self, name: str) -> Enrolled | None:
        return self._records.get(name)

    def verifier(self, name: str) -> tuple[Member, Ed25519PublicKey] | None:
        """Return what is enrolled of `name` and the key that proves it."""
        return self._public.get(name)

    def by_curve(self, key: bytes) -> str | None:
        """Return whose transport key this is."""
        return self._curves.get(key)

    def conductor_at(self, address: str) -> Enrolled | None:
        """Return the conductor that is dialled at host:port."""
        return next((r for r in self._records.values() if r.role == "conductor" and r.address == address), None)


class KeyTrust:
    """`Trust` by enrolled keys: Ed25519 signatures; answers sealed by an ephemeral X25519 key and ChaCha20-Poly1305."""

    def __init__(self, keys: Keys, directory: Directory) -> None:
        self._keys, self._directory = keys, directory
        self._own_seal = keys.seal.public_key().public_bytes_raw()

    def sign(self, body: bytes) -> bytes:
        return self._keys.sign.sign(body)

    def check(self, sender: str, body: bytes, signature: bytes) -> Member | None:
        found = self._directory.verifier(sender)
        if found is None:
            return None
        member, key = found
        try:
            key.verify(signature, body)
        except InvalidSignature:
            return None
        return member

    def seal(self, name: str, secret: bytes, context: bytes) -> bytes:
        record = self._directory.get(name)
        if record is None:
            raise ValueError(f"{name} is not enrolled")
        ephemeral = X25519PrivateKey.generate()
        public = ephemeral.public_key().public_bytes_raw()
        shared = ephemeral.exchange(X25519PublicKey.from_public_bytes(record.seal))
        box = ChaCha20Poly1305(_session_key(shared, public, record.seal))
        return public + box.encrypt(bytes(12), secret, context)

    def open(self, sealed: bytes, context: bytes) -> bytes:
        public, rest = sealed[:32], sealed[32:]
        try:
            shared = self._keys.seal.exchange(X25519PublicKey.from_public_bytes(public))
            box = ChaCha20Poly1305(_session_key(shared, public, self._own_seal))
            return box.decrypt(bytes(12), rest, context)
        except (InvalidTag, ValueError):
            raise ValueError("not sealed for this process") from None


def _session_key(shared: bytes, ephemeral: bytes, receiver: bytes) -> bytes:
    """Used for one message only, so its nonce may be zero."""
    return blake2b(ephemeral + receiver, key=shared, person=b"kilonova-seal", digest_size=32).digest()


def _check_name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise EnrolmentError(f"not a name for the queue: {name!r}")


def _write(path: Path, content: bytes, mode: int) -> None:
    """Replace a file whole."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        os.write(fd, content)
        os.fsync(fd)
    finally:
        os.close(fd)
    draft.replace(path)
