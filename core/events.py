"""Everything that can happen to a machine: a closed union of frozen records, also the journal's wire format.

``at_ms`` is the node's own monotonic clock. Events are facts that the host saw; none is an order.
"""

from typing import Literal

import msgspec

from core.gate import Refusal
from core.ids import (
    NO_IMAGE,
    NO_NODE,
    BootId,
    DomainId,
    Epoch,
    Guid,
    ImageId,
    NodeId,
    OpId,
    RackId,
    ServiceName,
    SessionId,
)
from core.records import Change, Instance

Reason = Literal[
    "unanswered",  # no answer within the limit: the outcome is unknown
    "session",  # the session named by the effect is over
    "conflict",  # a version did not match, a path exists or is missing: nothing was written
    "refused",  # the other side said no (fenced, lock held, power refused, deadline passed)
    "unavailable",  # the other side cannot be reached; nothing was done
    "failed",  # it was tried and went wrong
]


class Event(msgspec.Struct, frozen=True, kw_only=True, tag=True, tag_field="event"):
    """What every event has in common."""

    at_ms: int


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """A service that outlived the previous agent, as its supervisor reports it. ``epoch`` is 0 without a lease."""

    service: ServiceName
    epoch: Epoch
    instance: Instance | None = None
    announced: bool = False


class Started(Event, frozen=True, kw_only=True):
    """The agent process started. ``session`` is the saved session id (0: none); ``running`` outlived the last agent.

    ``server`` says that a ZooKeeper server is configured on this node, ``image`` which image it booted.
    ``hand_over``: started by the supervisor because the agent cannot come back; give everything up cleanly, then end.
    """

    boot_id: BootId
    session: SessionId
    running: tuple[Running, ...] = ()
    server: bool = False
    hand_over: bool = False
    image: ImageId = NO_IMAGE


class TimerFired(Event, frozen=True, kw_only=True):
    timer: str


class SessionOpened(Event, frozen=True, kw_only=True):
    """A session is established; ``resumed`` if it is the one that was asked for or connected before."""

    session: SessionId
    resumed: bool


class SessionEnded(Event, frozen=True, kw_only=True):
    """A server said that this session is over. Never arrives while cut off."""

    session: SessionId


class RecordsChanged(Event, frozen=True, kw_only=True):
    """Deltas of mirrored paths, in order. ``resync``: everything at or below ``roots`` that is not listed is gone."""

    changes: tuple[Change, ...]
    resync: bool = False
    roots: tuple[str, ...] = ()


class PeerSilent(Event, frozen=True, kw_only=True):
    """A node listened to (``ListenTo``) has not been heard for ``Timing.suspect_ms``."""

    node: NodeId


class PeerHeard(Event, frozen=True, kw_only=True):
    """A node listened to is heard again, or for the first time."""

    node: NodeId


class StorageSeen(Event, frozen=True, kw_only=True):
    """Whether this node reaches the storage; sent at the start and when it changes."""

    ok: bool


class BeatAnswered(Event, frozen=True, kw_only=True):
    """A standing beat came back. ``asked_ms`` is when it was asked (own clock). ``refused``: the instance is fenced or
    the lease is not ours; ``unanswered``: proves nothing. Hosts may leave out answers that change nothing but time."""

    service: ServiceName
    epoch: Epoch
    kind: Literal["coordination", "storage"]
    asked_ms: int
    outcome: Literal["ok", "refused", "unanswered"]


class ServiceExited(Event, frozen=True, kw_only=True):
    """A running service exited or failed its health check for good."""

    service: ServiceName
    epoch: Epoch
    detail: str = ""


class RightExpired(Event, frozen=True, kw_only=True):
    """The deadline armed outside the agent passed: the address is off and the service suspended."""

    service: ServiceName
    epoch: Epoch


BootStage = Literal["offered", "script", "kernel", "image", "up"]
"""How far a network boot has come: address offered, script, kernel and initrd, root image sent, agent up."""


class BootSeen(Event, frozen=True, kw_only=True):
    """A machine that this node boots came further; ``detail`` in words."""

    node: NodeId
    stage: BootStage
    detail: str = ""


class JoinAdmitted(Event, frozen=True, kw_only=True):
    """This node exchanged a boot token for a certificate. ``certificate``: its serial number in hex."""

    node: NodeId
    guid: Guid
    mac: str
    certificate: str = ""


class JoinRefused(Event, frozen=True, kw_only=True):
    """Somebody asked this node for a boot script or a certificate and must not have it.

    ``node``: who it claimed to be, if that is anybody. ``detail``: who asked, for a person.
    """

    reason: Refusal
    node: NodeId = NO_NODE
    detail: str = ""


class Done(msgspec.Struct, frozen=True, kw_only=True, tag=True, tag_field="result"):
    """Nothing more to say than that it worked."""


class Committed(Done, frozen=True, kw_only=True):
    """The transaction is durable at a quorum. ``versions``: what each write left, in order (0 for removals)."""

    zxid: int
    versions: tuple[int, ...]


class ReadBack(Done, frozen=True, kw_only=True):
    """State of each path asked for, not older than any commit this session sent before."""

    changes: tuple[Change, ...]


class VolumeOpened(Done, frozen=True, kw_only=True):
    """The volume is open under ``instance``; nothing was written yet."""

    instance: Instance


class Stopped(Done, frozen=True, kw_only=True):
    """The service is no longer running. ``clean`` if it stopped by itself, was not killed and unmounted well."""

    clean: bool


class PowerSeen(Done, frozen=True, kw_only=True):
    """What the BMC reports, read back after any order."""

    on: bool


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """One BMC that answered. ``node``: the machine of the inventory that it belongs to, if any.

    ``access``: the name of the credentials it accepts; "": none of those that may be tried there, see ``problem``.
    ``number``: the number of ``node`` in the inventory.
    """

    bmc: str
    guid: Guid
    rack: RackId
    power_domain: DomainId
    node: NodeId = NO_NODE
    number: int = 0
    access: str = ""
    problem: str = ""


class Scanned(Done, frozen=True, kw_only=True):
    """Every BMC that answered in one management network."""

    seen: tuple[Seen, ...]


class ConsoleSeen(Done, frozen=True, kw_only=True):
    """The tail of what a machine wrote on its serial console since its last power order, printable text."""

    tail: str


class Staged(Done, frozen=True, kw_only=True):
    """The image is verified and lies in ``slot``; "": this machine has no disk and boots from the network."""

    slot: str = ""


Result = Done | Committed | ReadBack | VolumeOpened | Stopped | PowerSeen | Scanned | ConsoleSeen | Staged


class OpSucceeded(Event, frozen=True, kw_only=True):
    op: OpId
    result: Result


class OpFailed(Event, frozen=True, kw_only=True):
    """An operating failure. ``index``: which write of a commit failed (-1: none in particular)."""

    op: OpId
    reason: Reason
    retryable: bool = True
    detail: str = ""
    index: int = -1


AnyEvent = (
    Started
    | TimerFired
    | SessionOpened
    | SessionEnded
    | RecordsChanged
    | PeerSilent
    | PeerHeard
    | StorageSeen
    | BeatAnswered
    | ServiceExited
    | RightExpired
    | BootSeen
    | JoinAdmitted
    | JoinRefused
    | OpSucceeded
    | OpFailed
)
