"""Key material: checking and fingerprinting public keys, making pairs.

A fingerprint is the MD5 of an SSH key's blob, or the SHA-1 of a certificate's DER, as the Compute API
shows them (an identifier, not a protection).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from hashlib import md5, sha1

_SSH_TYPES = frozenset(
    {
        "ssh-rsa", "ssh-dss", "ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521",
        "sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com",
    }
)  # fmt: skip


class InvalidKey(Exception):
    """The text is no public key of its kind."""


def fingerprint(kind: str, public: str) -> str:
    """The fingerprint of an `ssh` or `x509` public key, in colon-separated hexadecimal. Raises InvalidKey."""
    digest = _x509(public) if kind == "x509" else _ssh(public)
    return ":".join(digest[i : i + 2] for i in range(0, len(digest), 2))


def _ssh(public: str) -> str:
    parts = public.split(None, 2)
    if len(parts) < 2 or parts[0] not in _SSH_TYPES:
        raise InvalidKey("failed to generate fingerprint")
    try:
        blob = base64.b64decode(parts[1], validate=True)
    except (binascii.Error, ValueError):
        raise InvalidKey("failed to generate fingerprint") from None
    fields, at = [], 0
    while at + 4 <= len(blob):
        size = int.from_bytes(blob[at : at + 4], "big")
        fields.append(blob[at + 4 : at + 4 + size])
        at += 4 + size
    if at != len(blob) or len(fields) < 2 or fields[0] != parts[0].encode():
        raise InvalidKey("failed to generate fingerprint")
    return md5(blob, usedforsecurity=False).hexdigest()


def _x509(public: str) -> str:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    try:
        certificate = x509.load_pem_x509_certificate(public.encode())
    except ValueError:
        raise InvalidKey("failed to generate X509 fingerprint") from None
    return sha1(certificate.public_bytes(Encoding.DER), usedforsecurity=False).hexdigest()


async def generate(kind: str, user: str) -> tuple[str, str]:
    """(public, private) of a new pair: Ed25519 for ssh; for x509 a client certificate signed by its own key."""
    if kind == "ssh":
        return _generate_ssh()
    # Making an RSA key takes some 100 ms: beside the loop, in a thread of its own.
    return await asyncio.to_thread(_generate_x509, user)


def _generate_ssh() -> tuple[str, str]:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
    return f"{public} kilonova", private


def _generate_x509(user: str) -> tuple[str, str]:
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, user[:64])])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=3650))
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(key, hashes.SHA256())
    )
    public = certificate.public_bytes(Encoding.PEM).decode()
    private = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode()
    return public, private
