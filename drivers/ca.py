"""The rack's certificate authority: keys and certificates of its nodes and its operator, as PEM files.

Whoever holds a certificate of this authority is in the rack; nobody else gets an answer from ZooKeeper. A node's
subject is ``CN=<node>,O=rack`` (RFC 2253 order), which access lists name. Keys are PKCS8 on P-256; ``both.pem`` holds
key and certificate in one file, which is the store that a JVM reads.
"""

import ipaddress
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from core.errors import InputError
from drivers.clock import wall_ms
from drivers.join import REVOKED_NAME, names_list

ORGANISATION = "rack"
OPERATOR = "operator"
CA_DAYS = 3_650
CERT_DAYS = 825
"""Days a certificate lasts. Source: the longest that common verifiers accept (CA/Browser Forum ballot 193)."""
ISSUED_FILE = "issued"
"""Beside the authority's key: a line for each certificate, so that whose node is retired can be found and revoked."""
ISSUED_MAX = 100_000
SERIAL = re.compile(r"[0-9a-f]{1,40}")
RENEW_DAYS = 90
"""``renew`` issues anew what ends within this many days."""
SKEW = timedelta(days=1)
"""Certificates begin this long before they are made: a node whose clock is behind must not refuse them."""


_REVOKED_BY = x509.CRLDistributionPoints(
    [
        x509.DistributionPoint(
            full_name=[x509.UniformResourceIdentifier(REVOKED_NAME)],
            relative_name=None,
            reasons=None,
            crl_issuer=None,
        )
    ]
)
"""Where a JVM that checks a certificate finds that list: in the folder it runs in, so that every node has its own."""


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """Where a key and its certificate lie. ``both`` is key and certificate in one file ("" for the authority)."""

    key: Path
    cert: Path
    both: Path | None = None

    @classmethod
    def of(cls, folder: Path, name: str) -> "Pair":
        """The files of ``name`` in a folder."""
        return cls(key=folder / f"{name}.key", cert=folder / f"{name}.pem", both=folder / f"{name}.both.pem")


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What a certificate says. ``names``: what it may be reached by; ``ends_ms``: milliseconds since 1970."""

    subject: str
    issuer: str
    fingerprint: str
    names: tuple[str, ...]
    ends_ms: int

    @property
    def days_left(self) -> int:
        """Whole days until it ends; negative once it has ended."""
        return (self.ends_ms - wall_ms()) // 86_400_000


class Signed(msgspec.Struct, frozen=True, kw_only=True):
    """A new certificate, and its serial number in hex."""

    pem: bytes
    serial: str


def subject_of(name: str) -> str:
    """The subject of a certificate as access lists name it."""
    return f"CN={name},O={ORGANISATION}"


def read(path: Path) -> Seen:
    """Read a certificate file.

    Raises: InputError if it is missing or holds no certificate.
    """
    cert = _load(path)
    return Seen(
        subject=cert.subject.rfc4514_string(),
        issuer=cert.issuer.rfc4514_string(),
        fingerprint=cert.fingerprint(hashes.SHA256()).hex(":").upper(),
        names=_names(cert),
        ends_ms=int(cert.not_valid_after_utc.timestamp() * 1000),
    )


def is_signed_by(cert: Path, authority: Path) -> bool:
    """Whether the certificate in one file was issued by the one in the other.

    Raises: InputError if either holds no certificate.
    """
    try:
        _load(cert).verify_directly_issued_by(_load(authority))
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def is_revocable(cert: Path) -> bool:
    """Whether the certificate in a file says where the list of revoked ones is.

    Raises: InputError if it holds no certificate.
    """
    return names_list(_load(cert).public_bytes(serialization.Encoding.DER))


def serial_of(cert: Path) -> str:
    """The serial number (hex) of the certificate in a file. Raises: InputError if it holds none."""
    return f"{_load(cert).serial_number:x}"


def requested_key(csr_pem: bytes) -> ec.EllipticCurvePublicKey:
    """The key that a request for a certificate asks for: on P-256, and proved to be the asker's own.

    Raises: InputError if it is anything else.
    """
    try:
        request = x509.load_pem_x509_csr(csr_pem)
        key, proved = request.public_key(), request.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature) as error:
        raise InputError([f"the request for a certificate is none ({_reason(error)}); needed: PKCS10 in PEM"]) from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise InputError(["the request for a certificate has another kind of key; needed: one on P-256"])
    if not proved:
        raise InputError(["the request for a certificate is not signed with its own key"])
    return key


def request_for(key: ec.EllipticCurvePrivateKey, name: str) -> bytes:
    """Ask for a certificate for a key: PKCS10 in PEM."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(_name(name))
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


class Authority:
    """The authority in one folder: made once, then read.

    ``folder`` holds ``ca.key`` (owner-only) and ``ca.pem``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cert = folder / "ca.pem"
        self._key = folder / "ca.key"

    @property
    def has_key(self) -> bool:
        """Whether it can sign here."""
        return self._key.exists() and self.cert.exists()

    def make(self) -> bool:
        """Make the authority if there is none; True if it was made now.

        Raises: InputError if only one of its two files is there, or the folder cannot be written.
        """
        there = (self._key.exists(), self.cert.exists())
        if all(there):
            self._open()
            return False
        if any(there):
            gone, left = (self.cert, self._key) if there[0] else (self._key, self.cert)
            needed = "both files from a backup, or neither for a new authority and all certificates anew"
            raise InputError([f"{gone}: is missing beside {left.name}; needed: {needed}"])
        key = ec.generate_private_key(ec.SECP256R1())
        name = _name("rack-ca")
        builder = _builder(name, name, key.public_key(), CA_DAYS)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(_usage(authority=True), critical=True)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        write_secret(self._key, key_pem(key))
        write_public(self.cert, _cert_pem(builder.sign(key, hashes.SHA256())))
        return True

    def issue(self, pair: Pair, name: str, names: Sequence[str] = (), *, again: bool = False) -> bool:
        """Make a key and a certificate for ``name``; True if they were made, False if they are there already.

        ``names``: IP addresses and host names it is reached by; with none it can only be a client. ``again``: replace
        what is there.
        Raises: InputError if the authority is missing or the files cannot be written.
        """
        if pair.key.exists() and pair.cert.exists() and not again:
            return False
        key = ec.generate_private_key(ec.SECP256R1())
        cert = self._certify(key.public_key(), name, names).pem
        secret = key_pem(key)
        write_secret(pair.key, secret)
        write_public(pair.cert, cert)
        if pair.both is not None:
            write_secret(pair.both, secret + cert)
        return True

    def renew(self, pair: Pair, name: str, names: Sequence[str] = (), days: int = RENEW_DAYS) -> bool:
        """Make key and certificate anew if the certificate ends within ``days``; True if it was renewed.

        Raises: InputError, see ``issue``.
        """
        return read(pair.cert).days_left < days and self.issue(pair, name, names, again=True)

    def sign(self, csr_pem: bytes, node: str, names: Sequence[str]) -> Signed:
        """Certify the key of a request as that of ``node``, reached by ``names``; what the request says is ignored.

        Raises: InputError if the request is none, or the authority is missing.
        """
        return self._certify(requested_key(csr_pem), node, names)

    def revoke(self, serials: Iterable[str], number: int) -> bytes:
        """Make the list of the certificates that count no more, in PEM. ``number`` grows with every list.

        ``serials`` are in hex. The list does not end before the authority does: whether it is the newest is told by
        the rack's records, and a list that ended would shut everybody out.
        Raises: InputError if the authority is missing.
        """
        ca_key, ca = self._open()
        now = datetime.fromtimestamp(wall_ms() // 1000, UTC)
        builder = x509.CertificateRevocationListBuilder().issuer_name(ca.subject)
        builder = builder.last_update(now - SKEW).next_update(ca.not_valid_after_utc)
        builder = builder.add_extension(x509.CRLNumber(number), critical=False)
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
        )
        for serial in sorted({int(serial, 16) for serial in serials}):
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now - SKEW)
            builder = builder.add_revoked_certificate(entry.build())
        return builder.sign(ca_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def _certify(self, key: ec.EllipticCurvePublicKey, name: str, names: Sequence[str]) -> Signed:
        ca_key, ca = self._open()
        builder = _builder(_name(name), ca.subject, key, CERT_DAYS)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_usage(authority=False), critical=True)
        usages = [ExtendedKeyUsageOID.CLIENT_AUTH, *([ExtendedKeyUsageOID.SERVER_AUTH] if names else [])]
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
        )
        builder = builder.add_extension(_REVOKED_BY, critical=False)
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(list(map(_general, names))), critical=False)
        cert = builder.sign(ca_key, hashes.SHA256())
        signed = Signed(pem=_cert_pem(cert), serial=f"{cert.serial_number:x}")
        self._remember(signed, name)
        return signed

    def issued(self) -> tuple[tuple[str, str], ...]:
        """Serial number (hex) and name of every certificate that was signed with this folder, the oldest first."""
        try:
            lines = (self.folder / ISSUED_FILE).read_text(encoding="ascii", errors="replace").splitlines()
        except OSError:
            return ()
        pairs = (line.partition(" ") for line in lines[-ISSUED_MAX:])
        return tuple((serial, name) for serial, _, name in pairs if SERIAL.fullmatch(serial))

    def _remember(self, signed: Signed, name: str) -> None:
        try:
            with (self.folder / ISSUED_FILE).open("a", encoding="ascii") as file:
                file.write(f"{signed.serial} {name}\n")
        except OSError as error:
            raise InputError([f"{self.folder / ISSUED_FILE}: cannot be written ({_reason(error)})"]) from None

    def _open(self) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
        cert = _load(self.cert)
        try:
            key = serialization.load_pem_private_key(self._key.read_bytes(), password=None)
        except (OSError, ValueError, TypeError) as error:
            raise InputError([f"{self._key}: holds no key ({_reason(error)}); needed: the authority's key"]) from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != cert.public_key():
            raise InputError([f"{self._key}: is not the key of {self.cert}; needed: the two from the same backup"])
        return key, cert


def write_secret(path: Path, data: bytes) -> None:
    """Write a file that only its owner may read; nobody sees half of it.

    Raises: InputError if it cannot be written.
    """
    _write(path, data, 0o600)


def write_public(path: Path, data: bytes) -> None:
    """Write a file that everybody may read; nobody sees half of it.

    Raises: InputError if it cannot be written.
    """
    _write(path, data, 0o644)


def _write(path: Path, data: bytes, mode: int) -> None:
    new = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new.unlink(missing_ok=True)
        new.touch(mode=0o600, exist_ok=False)  # the mode comes first: a secret is never readable, not for a moment
        new.write_bytes(data)
        new.chmod(mode)
        new.replace(path)
    except (OSError, ValueError) as error:
        raise InputError([f"{path}: cannot be written ({_reason(error)}); needed: a folder of yours"]) from None


def _reason(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error).partition(". ")[0]
    return text.lower() or type(error).__name__


def _load(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError([f"{path}: holds no certificate ({_reason(error)}); needed: a PEM file"]) from None


def _names(cert: x509.Certificate) -> tuple[str, ...]:
    try:
        found = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return (*found.get_values_for_type(x509.DNSName), *map(str, found.get_values_for_type(x509.IPAddress)))


def _name(common: str) -> x509.Name:
    """A subject in the order in which ``openssl -subj /O=rack/CN=…`` writes it; RFC 2253 shows it reversed."""
    attributes = ((NameOID.ORGANIZATION_NAME, ORGANISATION), (NameOID.COMMON_NAME, common))
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in attributes])


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: int
) -> x509.CertificateBuilder:
    now = datetime.fromtimestamp(wall_ms() // 1000, UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(now + timedelta(days=days))
    )


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """PKCS8, ``BEGIN PRIVATE KEY``: the only form that ZooKeeper's PEM reader takes."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _cert_pem(cert: x509.Certificate) -> bytes:
    return cert.public_bytes(serialization.Encoding.PEM)
