"""What lies where in ZooKeeper and who may do what to it: containers, access lists, and where a node looks for servers.

With TLS every client has a certificate of the rack's authority, and the access lists name their subjects; without TLS
(tests and experiments only) everybody may do everything. ZooKeeper's right to delete belongs to the parent.
"""

from collections.abc import Mapping, Sequence

import msgspec

from core.hashing import digest
from core.ids import NodeId, SessionId
from core.records import CLUSTER, DOMAINS, LEASES, MACHINES, MEMBERS, NODES, POWER, SERVICES, TERMS, UPGRADE
from drivers.config import Machine

ROOT = "/moxie"
SESSIONS = "/moxie/sessions"
REVOKED = "/moxie/revoked"
"""The signed list of revoked certificates, which is no record (``drivers.join.published``)."""
READ, WRITE, CREATE, DELETE, ALL = 1, 2, 4, 8, 31
"""Rights. Source: ``org.apache.zookeeper.ZooDefs.Perms``."""
HOSTS_MAX = 8
"""So many servers are tried in turn: a client divides its session's time among those it knows."""


class Grant(msgspec.Struct, frozen=True):
    """Rights of whoever shows ``id`` under ``scheme``."""

    rights: int
    scheme: str
    id: str


Grants = tuple[Grant, ...]
_OPEN: Grants = (Grant(ALL, "world", "anyone"),)
_PUBLIC: dict[str, int] = {
    ROOT: READ | CREATE,
    NODES: READ | CREATE,
    MEMBERS: READ | CREATE,
    SERVICES: READ,
    TERMS: READ | CREATE,
    LEASES: READ | CREATE | DELETE,
    POWER: READ | CREATE,
    DOMAINS: READ | CREATE,
    MACHINES: READ | CREATE,
    SESSIONS: READ | CREATE,
}
"""What every node may do to a container itself; CREATE and DELETE are about what is directly below it."""


def subject(name: str) -> str:
    """The subject of a certificate as access lists name it (RFC 2253 order)."""
    return f"CN={name},O=rack"


def session_path(session: SessionId) -> str:
    """Where the credential of a session lies while it lives."""
    return f"{SESSIONS}/{session & (1 << 64) - 1:016x}"


def containers(machines: Mapping[NodeId, Machine]) -> tuple[str, ...]:
    """The paths that must exist before anything is written, parents first."""
    racks = sorted({machine.rack for machine in machines.values()})
    return (*_PUBLIC, *(f"{MEMBERS}/{rack}" for rack in racks))


def grants(path: str, node: NodeId, tls: bool) -> Grants:
    """The access list that ``node`` creates a path with."""
    if not tls:
        return _OPEN
    above = path.rpartition("/")[0]
    if path in _PUBLIC:
        return (Grant(_PUBLIC[path], "world", "anyone"),)
    if above == MEMBERS:
        return (Grant(READ | CREATE, "world", "anyone"),)
    if above.startswith(MEMBERS + "/") or above in (LEASES, SESSIONS):
        return (Grant(READ, "world", "anyone"), Grant(READ | WRITE, "x509", subject(node)))
    if above == SERVICES:
        return (Grant(READ, "world", "anyone"),)
    if path in (CLUSTER, UPGRADE, REVOKED) or above in (NODES, TERMS, POWER, DOMAINS, MACHINES):
        return (Grant(READ | WRITE, "world", "anyone"),)
    return (Grant(READ, "world", "anyone"), Grant(ALL, "x509", subject(node)))


def servers_in_order(node: NodeId, machines: Mapping[NodeId, Machine], voters: Sequence[NodeId]) -> tuple[NodeId, ...]:
    """Where a node looks for a server: its own first, then the other voters, then everybody.

    The order among the others differs from node to node, so that the clients spread over the servers.
    """

    def key(other: NodeId) -> tuple[bool, bool, int, NodeId]:
        return (other != node or node not in voters, other not in voters, digest(f"{node}/{other}"), other)

    return tuple(sorted(machines, key=key))


def window(order: Sequence[NodeId], voters: int, turn: int) -> tuple[NodeId, ...]:
    """The servers to try now: the first ``voters`` of the order, and with each turn others of the rest."""
    first = tuple(order[: min(voters, HOSTS_MAX)])
    rest = order[len(first) :]
    if (turn < 1 and first) or not rest:
        return first
    room = max(1, HOSTS_MAX - len(first))
    start = (turn - (1 if first else 0)) * room % len(rest)
    return (*first, *(*rest, *rest)[start : start + min(room, len(rest))])
