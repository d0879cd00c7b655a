"""TLS to a server of which nothing is known but the fingerprint of its authority.

The authority's certificate is taken from what the server itself shows, and believed only if its fingerprint is the one
on the kernel command line. Then the connection is made anew and checked as usual: chain, address, TLS 1.3.
"""

import hashlib
import hmac
import http.client
import re
import socket
import ssl

from drivers.join.messages import ANSWER_BYTES_MAX

NO_CHECK_TIME = 0x200000
"""A machine's clock may have stood still while it was off. Source: OpenSSL, ``X509_V_FLAG_NO_CHECK_TIME``."""
CHAIN_MAX = 8
REDIRECTS_MAX = 3
REDIRECT = re.compile(r"http://(?P<host>[0-9A-Za-z.-]{1,253})(:(?P<port>[0-9]{1,5}))?(?P<path>/[0-9A-Za-z/._-]{0,200})")


class Untrusted(Exception):
    """The server is not one of this rack. Never asked again by itself: somebody is where our server should be."""


class Unreachable(Exception):
    """No server answered, or not as one does; it may later."""


def authority_of(address: str, port: int, fingerprint: str, seconds: float) -> str:
    """Fetch the certificate (PEM) of this fingerprint (SHA-256 of its DER, hex) from what a server shows.

    Raises: Untrusted if it shows none such; Unreachable.
    """
    blind = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    blind.minimum_version = ssl.TLSVersion.TLSv1_3
    blind.check_hostname = False
    blind.verify_mode = ssl.CERT_NONE  # nothing is sent, and what is read is believed by its fingerprint only
    try:
        with socket.create_connection((address, port), seconds) as plain, blind.wrap_socket(plain) as link:
            chain = _chain(link)
    except OSError as error:
        raise _translated(error, address, port) from error
    for der in chain:
        if hmac.compare_digest(hashlib.sha256(der).hexdigest(), fingerprint):
            return ssl.DER_cert_to_PEM_cert(der)
    raise Untrusted(f"{address}:{port} is of another authority than moxie.ca={fingerprint}")


def context_of(authority_pem: str) -> ssl.SSLContext:
    """What a connection to a server of this authority is made with. Raises: Untrusted if it is no certificate."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    made.verify_flags = ssl.VerifyFlags(made.verify_flags | NO_CHECK_TIME)
    try:
        made.load_verify_locations(cadata=authority_pem)
    except OSError as error:
        raise Untrusted(f"the server's authority is of no use: {error}") from error
    return made


def post(context: ssl.SSLContext, address: str, port: int, path: str, body: bytes, seconds: float) -> tuple[int, bytes]:
    """Send a request; status and body of the answer.

    Raises: Untrusted if the server's certificate is not of the authority, or not for this address; Unreachable.
    """
    line = http.client.HTTPSConnection(address, port, timeout=seconds, context=context)
    try:
        line.request("POST", path, body, {"Content-Type": "application/json"})
        answer = line.getresponse()
        data = answer.read(ANSWER_BYTES_MAX + 1)
    except (OSError, http.client.HTTPException) as error:
        raise _translated(error, address, port) from error
    finally:
        line.close()
    if len(data) > ANSWER_BYTES_MAX:
        raise Unreachable(f"{address}:{port} answers with more than {ANSWER_BYTES_MAX} bytes")
    return answer.status, data


def get(address: str, port: int, path: str, most: int, seconds: float) -> bytes:
    """Fetch a file over plain HTTP: whoever wants it checks a signature. Goes where it is sent, a few times.

    Raises: Unreachable, also if it is not there or longer than ``most`` bytes.
    """
    for _ in range(REDIRECTS_MAX):
        status, reason, data, location = _got(address, port, path, most, seconds)
        if status == 200 and len(data) <= most:
            return data
        there = REDIRECT.fullmatch(location) if status in (301, 302, 307) else None
        if there is None:
            break
        address, port, path = there["host"], int(there["port"] or 80), there["path"]
    raise Unreachable(f"http://{address}:{port}{path}: {status} {reason}, {len(data)} bytes")


def _got(address: str, port: int, path: str, most: int, seconds: float) -> tuple[int, str, bytes, str]:
    """Status, reason, body, and where else to go. Raises: Unreachable."""
    line = http.client.HTTPConnection(address, port, timeout=seconds)
    try:
        line.request("GET", path)
        answer = line.getresponse()
        data = answer.read(most + 1)
    except (OSError, http.client.HTTPException) as error:
        raise _translated(error, address, port) from error
    finally:
        line.close()
    return answer.status, answer.reason, data, answer.headers.get("Location", "")


def _chain(link: ssl.SSLSocket) -> list[bytes]:
    """The certificates that a server shows, in DER, unchecked."""
    public = getattr(link, "get_unverified_chain", None)
    if public is not None:  # from Python 3.13 on
        return [bytes(der) for der in public()[:CHAIN_MAX]]
    inner = getattr(link, "_sslobj", None)  # the same, not yet public
    shown = inner.get_unverified_chain() if inner is not None else None
    return [ssl.PEM_cert_to_DER_cert(one.public_bytes()) for one in (shown or ())[:CHAIN_MAX]]


def _translated(error: Exception, address: str, port: int) -> Untrusted | Unreachable:
    if isinstance(error, ssl.SSLCertVerificationError):
        return Untrusted(f"{address}:{port} is not of this rack: {error.verify_message}")
    return Unreachable(f"{address}:{port}: {str(error) or type(error).__name__}")
