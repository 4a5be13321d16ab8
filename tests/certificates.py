"""Certificates for the tests: authorities of our own, and everything that can be wrong with a certificate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_DAY = timedelta(days=1)
HERE = ("127.0.0.1", "localhost")


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate and its key as PEM."""

    cert: str
    key: str

    @property
    def der(self) -> bytes:
        """The certificate as it goes over the wire."""
        return x509.load_pem_x509_certificate(self.cert.encode()).public_bytes(serialization.Encoding.DER)

    def written(self, folder: Path, name: str) -> tuple[Path, Path]:
        """Write both to `folder`; their paths."""
        cert, key = folder / f"{name}.pem", folder / f"{name}.key"
        cert.write_text(self.cert)
        key.touch(mode=0o600)
        key.write_text(self.key)
        return cert, key


class Authority:
    """One that signs certificates, trusted by whoever is given its `pem`."""

    def __init__(self, name: str) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named(name)
        usage = x509.KeyUsage(
            digital_signature=True, key_cert_sign=True, crl_sign=True, content_commitment=False,
            key_encipherment=False, data_encipherment=False, key_agreement=False, encipher_only=False,
            decipher_only=False,
        )  # fmt: skip
        made = (
            _builder(self._name, self._name, self._key.public_key(), -_DAY, 10 * _DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.pem = made.public_bytes(serialization.Encoding.PEM).decode()

    def issue(
        self,
        name: str,
        hosts: Sequence[str] = (),
        *,
        since: timedelta = -_DAY,
        until: timedelta = _DAY,
        client: bool = False,
    ) -> Certificate:
        """A certificate for `name` and `hosts`, valid between two moments from now."""
        return _issued(_named(name), self._name, self._key, hosts, since, until, client)


def self_signed(name: str, hosts: Sequence[str]) -> Certificate:
    """A certificate that nobody vouches for but itself."""
    return _issued(_named(name), None, None, hosts, -_DAY, _DAY, False)


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, since: timedelta, until: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + since)
        .not_valid_after(now + until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _issued(
    subject: x509.Name,
    issuer: x509.Name | None,
    signer: ec.EllipticCurvePrivateKey | None,
    hosts: Sequence[str],
    since: timedelta,
    until: timedelta,
    client: bool,
) -> Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    signing = signer or key
    purpose = ExtendedKeyUsageOID.CLIENT_AUTH if client else ExtendedKeyUsageOID.SERVER_AUTH
    builder = (
        _builder(subject, issuer or subject, key.public_key(), since, until)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()), critical=False
        )
    )
    if hosts:
        builder = builder.add_extension(x509.SubjectAlternativeName([_host(host) for host in hosts]), False)
    made = builder.sign(signing, hashes.SHA256())
    return Certificate(
        made.public_bytes(serialization.Encoding.PEM).decode(),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode(),
    )


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)
