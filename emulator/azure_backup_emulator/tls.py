"""Certificates made at the start: an authority that clients trust, and a certificate for the loopback
names.
"""

from __future__ import annotations

import ipaddress
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


def new() -> str:
    """Return a certificate for localhost, 127.0.0.1 and ::1, its key and its authority as one PEM text."""
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = _name("Azure Backup emulator CA")
    usage = {"digital_signature": True, "content_commitment": False, "key_encipherment": False}
    usage |= {
        "data_encipherment": False,
        "key_agreement": False,
        "encipher_only": False,
        "decipher_only": False,
    }
    ca = (
        _builder(ca_name, ca_name, ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(x509.KeyUsage(**usage, key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    names = [
        x509.DNSName("localhost"),
        *(x509.IPAddress(ipaddress.ip_address(a)) for a in ("127.0.0.1", "::1")),
    ]
    leaf = (
        _builder(_name("localhost"), ca_name, key.public_key())
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(
                ca_key.public_key()
            ),  # strict checks of Python 3.13
            critical=False,
        )
        .sign(ca_key, hashes.SHA256())
    )
    return (_pem(leaf) + _key_pem(key) + _pem(ca)).decode()


def is_good(pem: str) -> bool:
    """Return whether a PEM text of ``new`` is valid for another day."""
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    return bool(pem) and x509.load_pem_x509_certificate(pem.encode()).not_valid_after_utc > tomorrow


def server_context(directory: Path, pem: str) -> ssl.SSLContext:
    """Return a TLS context for a PEM text of ``new``, and write its authority to ``directory/ca.pem``."""
    _, ca = x509.load_pem_x509_certificates(pem.encode())
    write_whole(directory / "ca.pem", _pem(ca), mode=0o644)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    private = directory / "server.pem"
    write_whole(private, pem.encode())
    context.load_cert_chain(private)
    private.unlink()
    return context


def client_certificate(path: Path, name: str) -> rsa.RSAPublicKey:
    """Write a certificate and its key for a service principal, and return the public key."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    certificate = _builder(_name(name), _name(name), key.public_key()).sign(key, hashes.SHA256())
    write_whole(path, _pem(certificate) + _key_pem(key))
    return key.public_key()


def public_key(path: Path) -> rsa.RSAPublicKey:
    """Return the public key of a file that ``client_certificate`` wrote."""
    key = x509.load_pem_x509_certificate(path.read_bytes()).public_key()
    if not isinstance(key, rsa.RSAPublicKey):
        raise ValueError(f"the certificate in {path} has no RSA key")
    return key


def _builder(subject: x509.Name, issuer: x509.Name, key: Any) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def write_whole(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Write a file so that a reader, even after a kill, finds the whole new content or the old content."""
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)
    part.touch(mode=mode, exist_ok=False)
    part.write_bytes(data)
    part.replace(path)
