"""The records that nodes share through ZooKeeper, and the paths they live at.

A record is written with the version it was read at (compare-and-set); who may write which is in each docstring.
"""

from enum import StrEnum
from typing import Literal

import msgspec

from core.ids import (
    NO_GUID,
    NO_IMAGE,
    NO_NODE,
    NO_SESSION,
    BootId,
    DomainId,
    Epoch,
    Guid,
    ImageId,
    NodeId,
    RackId,
    ServiceName,
    SessionId,
)
from core.specs import ServiceSpec

CLUSTER = "/moxie/cluster"
ENSEMBLE = "/zookeeper/config"
NODES = "/moxie/nodes"
MEMBERS = "/moxie/members"
SERVICES = "/moxie/services"
TERMS = "/moxie/terms"
LEASES = "/moxie/leases"
POWER = "/moxie/power"
DOMAINS = "/moxie/domains"
MACHINES = "/moxie/machines"
UPGRADE = "/moxie/upgrade"


def node_path(node: NodeId) -> str:
    return f"{NODES}/{node}"


def member_path(rack: RackId, node: NodeId) -> str:
    return f"{MEMBERS}/{rack}/{node}"


def term_path(service: ServiceName) -> str:
    return f"{TERMS}/{service}"


def lease_path(service: ServiceName) -> str:
    return f"{LEASES}/{service}"


def power_path(node: NodeId) -> str:
    return f"{POWER}/{node}"


def domain_path(domain: DomainId) -> str:
    return f"{DOMAINS}/{domain}"


def machine_path(guid: Guid) -> str:
    return f"{MACHINES}/{guid}"


def service_path(service: ServiceName) -> str:
    return f"{SERVICES}/{service}"


class Lifecycle(StrEnum):
    """State of a node (design 2.2); the transitions are ``core.lifecycle.TRANSITIONS``."""

    DISCOVERED = "discovered"
    POWERING = "powering"
    BOOTING = "booting"
    JOINED = "joined"
    SUSPECT = "suspect"
    LOST = "lost"
    RECOVERING = "recovering"
    QUARANTINED = "quarantined"
    DRAINING = "draining"
    MAINTENANCE = "maintenance"
    RETIRED = "retired"


class Record(msgspec.Struct, frozen=True, kw_only=True, tag=True, tag_field="record"):
    """What every record has in common: its tag on the wire."""


class ClusterRecord(Record, frozen=True, kw_only=True, tag="cluster"):
    """Settings and intents of the whole rack. Written by the ensemble's coordinator and by draining nodes.

    ``joining`` and ``leaving`` are the ensemble change under way. ``maintenance`` holds the nodes that
    were let into maintenance, so that two of them cannot enter at once without seeing each other.
    """

    format: int = 1
    ensemble_size: int = 5
    joining: tuple[NodeId, ...] = ()
    leaving: tuple[NodeId, ...] = ()
    maintenance: tuple[NodeId, ...] = ()


class EnsembleRecord(Record, frozen=True, kw_only=True, tag="ensemble"):
    """The voters of the ZooKeeper ensemble; written only by ``Reconfigure``. ``config`` orders configurations."""

    config: int
    voters: tuple[NodeId, ...]


class NodeRecord(Record, frozen=True, kw_only=True, tag="node"):
    """Lifecycle of one node, persistent. Written by its steward, by itself (joining) and by the operator (drain).

    ``attempts`` counts boots ordered since the node was last stable; ``reason`` is for a person to read, ``console``
    the tail of what it last wrote on its serial console before it was given up. ``guid`` is the machine that is this
    node; ``macs`` and ``certificates`` (serial numbers in hex, newest last) are what it was admitted with.
    """

    node: NodeId
    rack: RackId
    power_domain: DomainId
    state: Lifecycle
    boot_id: BootId = BootId("")
    attempts: int = 0
    reason: str = ""
    console: str = ""
    guid: Guid = NO_GUID
    macs: tuple[str, ...] = ()
    certificates: tuple[str, ...] = ()


class MemberRecord(Record, frozen=True, kw_only=True, tag="member", cache_hash=True):
    """Presence of one node, ephemeral, written only by itself.

    ``fit`` is False while it drains; ``unfit`` names singletons it gave up (rule 12); ``storage_ok`` is whether it
    reaches the storage; ``server`` whether its ZooKeeper server runs and has caught up, ``voter`` whether it could run
    one. ``image`` is what it booted; ``settled`` says, in its turn of an upgrade, that all that should run here does.
    """

    node: NodeId
    session: SessionId
    boot_id: BootId
    rack: RackId
    power_domain: DomainId
    weight: int
    cores: int
    memory_bytes: int
    fit: bool = True
    unfit: tuple[ServiceName, ...] = ()
    storage_ok: bool = True
    server: bool = False
    voter: bool = True
    image: ImageId = NO_IMAGE
    settled: bool = False


class ServiceRecord(Record, frozen=True, kw_only=True, tag="service"):
    """A service spec, as the operator set it."""

    spec: ServiceSpec


class Instance(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """A client instance: one opening of a volume. ``address`` is the storage's name for it, ``IP:0/NONCE``."""

    node: NodeId
    boot_id: BootId
    epoch: Epoch
    address: str


class TermRecord(Record, frozen=True, kw_only=True, tag="term"):
    """Who may run a singleton, persistent. Written by its holder; ``blocked`` also by the blocked node's steward.

    ``identities`` are the openings of the holder of ``epoch``, ``released`` those of them it closed cleanly.
    ``ousted`` is the holder of the epoch before, unless it stopped cleanly. ``unfenced`` are the openings of earlier
    epochs that are not fenced yet, ``blocked`` the fenced ones whose entry at the storage must be kept alive.
    ``unclean`` says that the holder gave the lease up without a clean stop, or before it might have admitted clients;
    ``stopped`` that it gave it up after a clean stop; ``serving`` that it admitted clients.
    """

    epoch: Epoch
    holder: NodeId = NO_NODE
    ousted: NodeId = NO_NODE
    session: SessionId = NO_SESSION
    identities: tuple[Instance, ...] = ()
    released: tuple[Instance, ...] = ()
    unfenced: tuple[Instance, ...] = ()
    blocked: tuple[Instance, ...] = ()
    unclean: bool = False
    stopped: bool = False
    serving: bool = False


class LeaseRecord(Record, frozen=True, kw_only=True, tag="lease"):
    """Proof that a session holds a singleton, ephemeral; created and deleted only together with the term."""

    node: NodeId
    session: SessionId
    epoch: Epoch


class PowerRecord(Record, frozen=True, kw_only=True, tag="power"):
    """The dated power order for one node and its early-close mark. Written by its steward.

    ``closed_session`` is the session that the steward closed because the BMC reported the node off (rule 10).
    """

    generation: int = 0
    action: str = ""
    by: NodeId = NO_NODE
    closed_session: SessionId = NO_SESSION


class Slot(msgspec.Struct, frozen=True, kw_only=True):
    """One power action in flight in a power domain; ``fence`` for one that takes power from a running node."""

    node: NodeId
    generation: int
    fence: bool


class DomainRecord(Record, frozen=True, kw_only=True, tag="domain"):
    """Power actions in flight in one power domain. Written by stewards."""

    slots: tuple[Slot, ...] = ()


class MachineRecord(Record, frozen=True, kw_only=True, tag="machine"):
    """One machine that was found by its BMC, persistent. Written by whoever owns the duty to look for machines.

    ``guid`` is its identity in its BMC's byte order; ``node`` what it is called once it may be powered, with
    ``number`` unique in the rack. ``bmc`` is ``ADDRESS:PORT``, ``access`` the name of the credentials that its BMC
    accepts. ``problem`` says why it is left alone ("": it is not). ``retired``: it was taken out for good and never
    boots here again; ``certificates`` are then the ones to revoke.
    """

    guid: Guid
    bmc: str
    rack: RackId
    power_domain: DomainId
    node: NodeId = NO_NODE
    number: int = 0
    access: str = ""
    problem: str = ""
    retired: bool = False
    certificates: tuple[str, ...] = ()


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """A node whose turn it is to be upgraded. ``boot_id``: of the boot before its restart."""

    node: NodeId
    boot_id: BootId


class UpgradeRecord(Record, frozen=True, kw_only=True, tag="upgrade"):
    """A change of the image that nodes run, from ``previous`` to ``image``. Begun, halted and resumed by the operator;
    carried on by whoever owns the duty.

    ``current``: the nodes that are being upgraded now, all of one power domain; ``done``: those that run it and passed
    the health gate. ``reason``: why it halted, for a person to read. ``parallel``: how many of one domain at once.
    """

    image: ImageId
    previous: ImageId = NO_IMAGE
    state: Literal["running", "halted", "done"] = "running"
    current: tuple[Turn, ...] = ()
    done: tuple[NodeId, ...] = ()
    reason: str = ""
    parallel: int = 1


AnyRecord = (
    ClusterRecord
    | EnsembleRecord
    | NodeRecord
    | MemberRecord
    | ServiceRecord
    | TermRecord
    | LeaseRecord
    | PowerRecord
    | DomainRecord
    | MachineRecord
    | UpgradeRecord
)


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """State of one path as of transaction ``zxid``; ``data`` is None if the path does not exist.

    ``owner`` is the session of an ephemeral. A change with a lower ``zxid`` than what is known of the path is
    stale and must be ignored.
    """

    path: str
    zxid: int
    version: int = 0
    data: AnyRecord | None = None
    owner: SessionId = NO_SESSION
