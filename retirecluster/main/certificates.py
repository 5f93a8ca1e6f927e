"""The cluster's own authority: its key, the main's certificate, and those of devices.

Needs the package cryptography, and is imported only by a main that uses TLS.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime, timezone
from ipaddress import ip_address
from pathlib import Path

from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from retirecluster.domain.errors import ClusterError
from retirecluster.store.folder import sync
from retirecluster.tls import SERVER_NAME

FOLDER = "tls"
NOT_BEFORE = datetime(2000, 1, 1, tzinfo=timezone.utc)
"""A Pi has no clock: until it has heard the time, it lives in the past."""
NOT_AFTER = datetime(9999, 12, 31, 23, 59, 59, tzinfo=timezone.utc)
"""What RFC 5280 has for no end: nobody renews the certificates of a drawer of old devices. Revoking ends them."""
_ORGANISATION = "retirecluster"


@frozen
class Issued:
    """A certificate and its key, as PEM text. `fingerprint`: SHA-256 of the certificate, in hexadecimal digits."""

    certificate: str
    key: str
    fingerprint: str


@frozen
class Authority:
    """The authority that lives in the folder `tls` of a main's data folder."""

    folder: Path
    certificate: x509.Certificate
    _key: ec.EllipticCurvePrivateKey

    @classmethod
    def open(cls, data_folder: Path) -> Authority:
        """The one that is kept there; made if there is none. Raises ClusterError bad_config."""
        folder = data_folder / FOLDER
        try:
            folder.mkdir(0o700, exist_ok=True)
            folder.chmod(0o700)
            if not (folder / "ca.crt").exists():
                _make(folder)
            return cls._load(folder)
        except (OSError, ValueError, TypeError) as error:
            words = f"{folder}: the authority cannot be used: {error}; put the files back from a backup"
            ending = "or remove the folder to make a new authority, with which every device has to join anew"
            raise ClusterError("bad_config", f"{words}, {ending}") from None

    @classmethod
    def _load(cls, folder: Path) -> Authority:
        certificate = x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes())
        key = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), None)
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise ValueError("ca.key is not the key of ca.crt")
        return cls(folder, certificate, key)

    @property
    def pem(self) -> str:
        return _pem(self.certificate)

    @property
    def hash(self) -> str:
        """By which devices know it: SHA-256 of its certificate, in small hexadecimal digits."""
        return fingerprint_of(self.certificate)

    def main_certificate(self) -> x509.Certificate | None:
        """The main's certificate; None where there is none that this authority has issued for the key beside it."""
        try:
            found = x509.load_pem_x509_certificate((self.folder / "main.crt").read_bytes())
            found.verify_directly_issued_by(self.certificate)
            key = serialization.load_pem_private_key((self.folder / "main.key").read_bytes(), None)
        except Exception:  # whatever is wrong with it, a new one takes its place
            return None
        return found if key.public_key() == found.public_key() else None

    def issue_main(self, names: Iterable[str]) -> x509.Certificate:
        """A new key and certificate for the main. Beside the fixed name it has `names`, for browsers and curl."""
        issued = self._issue("main", ExtendedKeyUsageOID.SERVER_AUTH, _alternatives([SERVER_NAME, *names]))
        _write(self.folder / "main.key", issued.key)
        _write(self.folder / "main.crt", issued.certificate + self.pem, 0o644)
        return x509.load_pem_x509_certificate(issued.certificate.encode("ascii"))

    def issue_device(self, device_id: str) -> Issued:
        """A key and a certificate for a device. Neither is kept here."""
        return self._issue(device_id[:64], ExtendedKeyUsageOID.CLIENT_AUTH, [])

    def _issue(self, name: str, usage: x509.ObjectIdentifier, names: list[x509.GeneralName]) -> Issued:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _builder(name, key, self.certificate.subject)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = builder.add_extension(identifier, critical=False)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        return Issued(_pem(certificate), _key_pem(key), fingerprint_of(certificate))


def fingerprint_of(certificate: x509.Certificate) -> str:
    """SHA-256 of a certificate, in small hexadecimal digits."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def _make(folder: Path) -> None:
    """A new authority. The certificate is written last: a start that ends before has made none."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("retirecluster authority")
    builder = _builder("retirecluster authority", key, name)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    certificate = builder.add_extension(usage, critical=True).sign(key, hashes.SHA256())
    _write(folder / "ca.key", _key_pem(key))
    _write(folder / "ca.crt", _pem(certificate), 0o644)


def _builder(name: str, key: ec.EllipticCurvePrivateKey, issuer: x509.Name) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOT_BEFORE)
        .not_valid_after(NOT_AFTER)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _name(common: str) -> x509.Name:
    parts = ((NameOID.ORGANIZATION_NAME, _ORGANISATION), (NameOID.COMMON_NAME, common))
    return x509.Name([x509.NameAttribute(oid, text) for oid, text in parts])


def _alternatives(names: Iterable[str]) -> list[x509.GeneralName]:
    """Names and addresses as they stand in a certificate; what cannot stand there is left out."""
    found: dict[str, x509.GeneralName] = {}
    for each in names:
        try:
            found[each] = x509.IPAddress(ip_address(each))
        except ValueError:
            with suppress(ValueError):
                found[each] = x509.DNSName(each)
    return list(found.values())


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode("ascii")


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    plain = serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, plain).decode("ascii")


def _write(path: Path, text: str, mode: int = 0o600) -> None:
    """Replace a file: whole, or not at all."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    sync(path.parent)
