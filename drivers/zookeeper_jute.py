"""Requests and answers of ZooKeeper as bytes: those that are asked here, one line or two each.

Source: ``zookeeper.jute`` and ``org.apache.zookeeper.ZooDefs`` of ZooKeeper 3.8.
"""

import struct
from collections.abc import Sequence

import msgspec

from core.ids import SessionId
from drivers.zookeeper_mirrors import Seen
from drivers.zookeeper_tree import Grants

_INT, _LONG = struct.Struct("!i"), struct.Struct("!q")
_STAT = struct.Struct("!qqqqiiiqiiq")
_MULTI = struct.Struct("!iBi")
CREATE, DELETE, GET, SET, GET_ACL, SET_ACL, CHILDREN, SYNC = 1, 2, 4, 5, 6, 7, 8, 9
CHECK, MULTI, RECONFIGURE, UNWATCH, AUTH, WATCH, CLOSE = 13, 14, 16, 18, 100, 106, -11
_ANY_WATCH = 3


class Request(msgspec.Struct, frozen=True):
    """One request: its number and its body."""

    type: int
    body: bytes = b""

    def serialize(self) -> bytes:
        """The body, as kazoo asks for it."""
        return self.body

    def __repr__(self) -> str:
        return f"Request({self.type})"  # a body may hold a secret


class Outcome(msgspec.Struct, frozen=True):
    """What came of a transaction: its number, and the error of each operation."""

    zxid: int
    errors: tuple[int, ...]


# -- requests ----------------------------------------------------------------------------------------------------------


def get(path: str) -> Request:
    """Read a path."""
    return Request(GET, _text(path) + b"\0")


def children(path: str) -> Request:
    """Read the names below a path."""
    return Request(CHILDREN, _text(path) + b"\0")


def sync(path: str) -> Request:
    """Wait until the server has what its leader has."""
    return Request(SYNC, _text(path))


def watch(path: str, recursive: bool) -> Request:
    """Begin a standing watch."""
    return Request(WATCH, _text(path) + _INT.pack(1 if recursive else 0))


def unwatch(path: str) -> Request:
    """End it."""
    return Request(UNWATCH, _text(path) + _INT.pack(_ANY_WATCH))


def check(path: str, version: int) -> Request:
    """Fail unless the path exists at this version."""
    return Request(CHECK, _text(path) + _INT.pack(version))


def create(path: str, data: bytes, grants: Grants, *, ephemeral: bool = False) -> Request:
    """Fail if the path exists."""
    return Request(CREATE, _text(path) + _bytes(data) + _grants(grants) + _INT.pack(1 if ephemeral else 0))


def put(path: str, data: bytes, version: int) -> Request:
    """Fail unless the path exists at this version."""
    return Request(SET, _text(path) + _bytes(data) + _INT.pack(version))


def remove(path: str, version: int) -> Request:
    """Fail unless the path exists at this version."""
    return Request(DELETE, _text(path) + _INT.pack(version))


def set_grants(path: str, grants: Grants) -> Request:
    """Replace the access list of a path."""
    return Request(SET_ACL, _text(path) + _grants(grants) + _INT.pack(-1))


def transaction(ops: Sequence[Request]) -> Request:
    """All of these or none."""
    parts = [_MULTI.pack(op.type, 0, -1) + op.body for op in ops]
    return Request(MULTI, b"".join(parts) + _MULTI.pack(-1, 1, -1))


def reconfigure(joining: str, leaving: str, config: int) -> Request:
    """Change the ensemble, if its configuration is ``config``."""
    return Request(RECONFIGURE, _text(joining) + _text(leaving) + _text("") + _LONG.pack(config))


def authenticate(scheme: str, secret: str) -> Request:
    """Show one more credential."""
    return Request(AUTH, _INT.pack(0) + _text(scheme) + _text(secret))


def close() -> Request:
    """End the session."""
    return Request(CLOSE)


# -- answers -----------------------------------------------------------------------------------------------------------


def read_get(answer: bytes, offset: int) -> Seen:
    """A path that exists."""
    size = max(0, _INT.unpack_from(answer, offset)[0])
    offset += _INT.size
    stat = _STAT.unpack_from(answer, offset + size)
    _, changed, _, _, version, _, _, owner, _, count, _ = stat
    data = answer[offset : offset + size]
    return Seen(zxid=changed, data=bytes(data), version=version, owner=SessionId(owner), children=count)


def read_children(answer: bytes, offset: int) -> tuple[str, ...]:
    """Names."""
    count = _INT.unpack_from(answer, offset)[0]
    offset += _INT.size
    names: list[str] = []
    for _ in range(count):
        size = _INT.unpack_from(answer, offset)[0]
        offset += _INT.size
        names.append(answer[offset : offset + size].decode())
        offset += size
    return tuple(names)


def read_transaction(answer: bytes, offset: int) -> tuple[int, ...]:
    """The error of each operation."""
    errors: list[int] = []
    while True:
        kind, done, _ = _MULTI.unpack_from(answer, offset)
        offset += _MULTI.size
        if done:
            return tuple(errors)
        error = 0
        if kind == CREATE:
            offset += _INT.size + _INT.unpack_from(answer, offset)[0]
        elif kind == SET:
            offset += _STAT.size
        elif kind == -1:
            error = _INT.unpack_from(answer, offset)[0]
            offset += _INT.size
        errors.append(error)


def read_event(answer: bytes, offset: int) -> tuple[int, str]:
    """A watch event: its kind and its path."""
    kind, _, size = struct.unpack_from("!iii", answer, offset)
    offset += 3 * _INT.size
    return kind, answer[offset : offset + size].decode()


def _text(text: str) -> bytes:
    return _bytes(text.encode()) if text else _INT.pack(-1)


def _bytes(data: bytes) -> bytes:
    return _INT.pack(len(data)) + data


def _grants(grants: Grants) -> bytes:
    parts = [_INT.pack(grant.rights) + _text(grant.scheme) + _text(grant.id) for grant in grants]
    return _INT.pack(len(parts)) + b"".join(parts)
