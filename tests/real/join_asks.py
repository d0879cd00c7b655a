"""What a join server is asked in tests: requests as a client's but for one thing, raw bytes; and what it says."""

import json
import socket
import ssl
import time

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec

from core.ids import NodeId
from drivers.ca import request_for
from drivers.join.boot import Boot
from drivers.join.client import join
from drivers.join.messages import PATH, No
from drivers.join.pinned import context_of, post
from tests.real.join_rack import GUID, N6, Rack, Served


def silent(text: str) -> None:
    """What a machine says on its console."""


def asked(boot: Boot, **changes: str) -> bytes:
    """A request as the client makes it, with something else in it."""
    key = ec.generate_private_key(ec.SECP256R1())
    fields = {
        "token": boot.token,
        "uuid": GUID[NodeId(boot.node)],
        "mac": boot.mac,
        "image": boot.image,
        "csr": request_for(key, boot.node).decode(),
        **changes,
    }
    return json.dumps(fields).encode()


def trusting(here: Served) -> ssl.SSLContext:
    """A connection that believes the rack's authority."""
    return context_of(here.rack.authority.cert.read_text())


def send(here: Served, body: bytes, context: ssl.SSLContext | None = None, path: str = PATH) -> tuple[int, bytes]:
    """Send a request to the join server; status and body of what comes back."""
    return post(context or trusting(here), "127.0.0.1", here.join, path, body, 10)


def refusal(here: Served, body: bytes, context: ssl.SSLContext | None = None) -> str:
    """Why a request is refused; what the asker hears is the same as what the rack hears, and nothing more."""
    before = len(here.rack.reasons)
    status, data = send(here, body, context)
    assert status in (400, 403)
    reason = msgspec.json.decode(data, type=No).refused
    assert json.loads(data) == {"refused": reason}
    assert here.rack.reasons[before:] == [reason]
    return reason


def await_refusal(rack: Rack, count: int = 1) -> None:
    """Wait until so many were refused: who hangs up may know it before the server does."""
    end = time.monotonic() + 10
    while len(rack.reasons) < count:
        assert time.monotonic() < end, f"{rack.reasons}: fewer than {count}"
        time.sleep(0.01)


def raw(here: Served, data: bytes, *, tls: bool = True) -> bytes:
    """Send bytes and read what comes until the server hangs up; b"" if it does so without a word."""
    with socket.create_connection(("127.0.0.1", here.join), 10) as plain:
        try:
            with trusting(here).wrap_socket(plain, server_hostname="127.0.0.1") if tls else plain as link:
                link.sendall(data)
                parts = []
                while part := link.recv(65_536):
                    parts.append(part)
        except OSError:
            return b""
        return b"".join(parts)


def joins(here: Served, node: NodeId = N6) -> None:
    """The server still does what it is for."""
    bundle = join(here.boot(node), here.machine(node), silent)
    assert bundle.node == node


def words(boot: Boot) -> dict[str, object]:
    """The kernel command line's words for a boot."""
    return {key: value for key, value in msgspec.structs.asdict(boot).items() if value}
