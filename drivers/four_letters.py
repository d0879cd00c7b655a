"""Asking ZooKeeper servers how they are (``srvr``, ``mntr``, ``conf``), without a session, so also without a quorum."""

import socket
import ssl
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from core.errors import InputError
from drivers.config import Tls
from drivers.rack_state import Server

T = TypeVar("T")

ANSWER_S = 2.0
ANSWER_BYTES_MAX = 1 << 20
THREADS_MAX = 16


def client_context(tls: Tls) -> ssl.SSLContext:
    """A context that shows our certificate and checks the server's against the rack's authority.

    Raises: InputError if a file is missing or no certificate.
    """
    try:
        context = ssl.create_default_context(cafile=str(tls.ca))
        context.load_cert_chain(tls.cert, tls.key)
    except (OSError, ValueError) as error:
        files = f"{tls.ca}, {tls.cert}, {tls.key}"
        reason = (error.strerror if isinstance(error, OSError) and error.strerror else str(error)).lower()
        raise InputError([f"[tls] {files}: cannot be used ({reason}); needed: the PEM files of 'rack init'"]) from None
    return context


def ask(address: str, word: str, context: ssl.SSLContext | None) -> str:
    """The answer of the server at ``ADDRESS:PORT`` to a four-letter word.

    Raises: OSError if it does not answer within ``ANSWER_S`` (``ssl.SSLError`` is one).
    """
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    with socket.create_connection((host, int(port)), timeout=ANSWER_S) as plain:
        if context is None:
            return _asked(plain, word)
        with context.wrap_socket(plain, server_hostname=host) as secure:
            return _asked(secure, word)


def _asked(connection: socket.socket, word: str) -> str:
    connection.sendall(word.encode("ascii"))
    answer = b""
    while len(answer) < ANSWER_BYTES_MAX:
        try:
            part = connection.recv(65_536)
        except ssl.SSLEOFError:
            break  # the server hangs up without a farewell once it has answered
        if not part:
            break
        answer += part
    if not answer:
        raise ConnectionError("the server closed the connection without an answer")
    return answer.decode("utf-8", "replace")


def ask_all(addresses: Mapping[T, str], look: Callable[[str], Server]) -> dict[T, Server]:
    """Look at many servers at once, at most ``THREADS_MAX`` at a time; the answers in the order of the addresses."""
    if not addresses:
        return {}
    with ThreadPoolExecutor(min(THREADS_MAX, len(addresses)), "ask") as pool:
        return dict(zip(addresses, pool.map(look, addresses.values()), strict=True))


def server_at(address: str, context: ssl.SSLContext | None) -> Server:
    """What a server says of itself; its ``error`` in words if it does not answer."""
    try:
        return parse_srvr(ask(address, "srvr", context))
    except (OSError, ValueError) as error:
        return Server(error=f"{spoken(error)} ({address})")


def parse_srvr(text: str) -> Server:
    """Read the answer to ``srvr``.

    Raises: ValueError if it is none (a server that is not in any quorum says so in one sentence).
    """
    found = dict(pair for line in text.splitlines() if (pair := _pair(line)) is not None)
    if "Mode" not in found:
        raise ValueError(text.strip().splitlines()[0][:120].lower() if text.strip() else "an empty answer")
    count = found.get("Connections", "0")
    return Server(
        mode="leader" if found["Mode"] == "standalone" else found["Mode"],
        version=found.get("Zookeeper version", "").split("-")[0].split(",")[0],
        zxid=found.get("Zxid", ""),
        connections=int(count) if count.isdigit() else 0,
    )


def _pair(line: str) -> tuple[str, str] | None:
    key, colon, value = line.partition(":")
    return (key.strip(), value.strip()) if colon else None


def figures(text: str, separators: str = "=\t") -> dict[str, str]:
    """Read ``mntr`` or ``conf``: one ``key=value`` or ``key TAB value`` a line."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        for sign in separators:
            key, there, value = line.partition(sign)
            if there:
                found.setdefault(key.strip(), value.strip())
                break
    return found


def spoken(error: Exception) -> str:
    """Say an error of a connection in a few words."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"no TLS connection: {(error.reason or str(error)).lower().replace('_', ' ')}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__


def modes(servers: Iterable[Server]) -> dict[str, int]:
    """How many servers are in each mode; those without an answer are left out."""
    found: dict[str, int] = {}
    for server in servers:
        if server.mode:
            found[server.mode] = found.get(server.mode, 0) + 1
    return found
