"""A certificate authority of the cloud's own, for `up --tls` (X.509, RFC 5280)."""

from __future__ import annotations

import ipaddress
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path


def ensure_certificate(folder: Path, host: str) -> tuple[str, str, str]:
    """(certificate, key, authority) files for `host`, made if missing, other or about to expire."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    tls = folder / "tls"
    tls.mkdir(mode=0o700, parents=True, exist_ok=True)
    ca_cert, ca_key = folder / "ca.pem", tls / "ca.key"
    cert_file, key_file = tls / f"{host.replace(':', '_')}.pem", tls / f"{host.replace(':', '_')}.key"
    now = datetime.now(UTC)

    def fresh(path: Path) -> bool:
        try:
            known = x509.load_pem_x509_certificate(path.read_bytes())
        except (OSError, ValueError):
            return False
        return known.not_valid_after_utc - now > timedelta(days=30)

    def write(path: Path, data: bytes, mode: int) -> None:
        part = path.with_suffix(path.suffix + ".part")
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        part.replace(path)

    def pem(key: ec.EllipticCurvePrivateKey) -> bytes:
        return key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    if not (fresh(ca_cert) and ca_key.exists()):
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kilonova authority")])
        authority = (
            x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
            .serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(minutes=5))
            .not_valid_after(now + timedelta(days=3650))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.KeyUsage(False, False, False, False, False, True, True, False, False), critical=True
            )
            .sign(key, hashes.SHA256())
        )  # fmt: skip
        write(ca_key, pem(key), 0o600)
        write(ca_cert, authority.public_bytes(serialization.Encoding.PEM), 0o644)
        cert_file.unlink(missing_ok=True)
    if not (fresh(cert_file) and key_file.exists()):
        authority = x509.load_pem_x509_certificate(ca_cert.read_bytes())
        signer = serialization.load_pem_private_key(ca_key.read_bytes(), None)
        assert isinstance(signer, ec.EllipticCurvePrivateKey)
        key = ec.generate_private_key(ec.SECP256R1())
        names: list[x509.GeneralName] = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            names.append(x509.DNSName(host))
        certificate = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host[:64])]))
            .issuer_name(authority.subject).public_key(key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=5)).not_valid_after(now + timedelta(days=397))
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
            .sign(signer, hashes.SHA256())
        )  # fmt: skip
        write(key_file, pem(key), 0o600)
        write(cert_file, certificate.public_bytes(serialization.Encoding.PEM), 0o644)
    return str(cert_file), str(key_file), str(ca_cert)
