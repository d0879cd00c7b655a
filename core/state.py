"""Everything one machine remembers: plain mutable records, so that a snapshot is their JSON.

Absolute times of the node's clock are ints whose names end in ``_at_ms``, ``_asked_ms`` or ``_until_ms``; -1 is never.
"""

from enum import StrEnum

import msgspec

from core.ids import NO_IMAGE, NO_SESSION, BootId, Epoch, Guid, ImageId, NodeId, OpId, ServiceName, SessionId
from core.records import Change, Instance, NodeRecord, PowerRecord, Slot, TermRecord, Turn

NO_OP = OpId(0)


class Subject(StrEnum):
    """Which part of the machine an answer belongs to."""

    MEMBERSHIP = "membership"
    SINGLETON = "singleton"
    COPY = "copy"
    WARD = "ward"
    DOMAIN = "domain"
    BLOCK = "block"
    ENSEMBLE = "ensemble"
    DRAIN = "drain"
    DISCOVERY = "discovery"
    BOOT = "boot"
    UPGRADE = "upgrade"


class Pending(msgspec.Struct, frozen=True, array_like=True):
    """An outstanding op: whose it is, of which key, at which step, when it was asked, in which session, and whether
    only a quorum can answer it."""

    subject: Subject
    key: str
    step: str
    asked_ms: int
    session: SessionId = NO_SESSION
    quorum: bool = False


class SingletonState(StrEnum):
    """States of a singleton on one node; the transitions are ``core.singleton_table.TRANSITIONS``."""

    IDLE = "idle"
    ADOPTING = "adopting"
    CLAIMING = "claiming"
    FENCING = "fencing"
    OPENING = "opening"
    RECORDING = "recording"
    WAITING = "waiting"
    STARTING = "starting"
    ADMITTING = "admitting"
    SERVING = "serving"
    WITHDRAWN = "withdrawn"
    STOPPING = "stopping"
    CLOSING = "closing"
    RELEASING = "releasing"


class Ending(StrEnum):
    """How a holder wants to get rid of a singleton."""

    NONE = ""
    HAND_OVER = "hand_over"
    """Stop cleanly, close, release."""
    GIVE_UP = "give_up"
    """Kill, delete the lease without released, mark this node unfit."""
    DROP = "drop"
    """Kill; the lease is gone already."""


class Singleton(msgspec.Struct):
    """One singleton as this node holds (or tries to hold) it."""

    name: ServiceName
    state: SingletonState = SingletonState.IDLE
    ending: Ending = Ending.NONE
    op: OpId = NO_OP
    epoch: Epoch = Epoch(0)
    last_epoch: Epoch = Epoch(0)
    term: TermRecord | None = None
    term_version: int = -1
    previous: TermRecord | None = None
    instance: Instance | None = None
    recorded: bool = False
    to_fence: list[Instance] = []
    fenced_at_ms: int = -1
    admit_at_ms: int = -1
    coordination_asked_ms: int = -1
    storage_asked_ms: int = -1
    progress_at_ms: int = -1
    withdrawn_at_ms: int = -1
    clean: bool = True
    ran: bool = False
    stayed: bool = False
    starts_failed: int = 0
    announced: bool = False
    reason: str = ""


class CopyState(StrEnum):
    """States of a copy of an everywhere- or count-service; the transitions are ``core.everywhere.TRANSITIONS``."""

    IDLE = "idle"
    STARTING = "starting"
    RUNNING = "running"
    BACKOFF = "backoff"
    STOPPING = "stopping"


class Copy(msgspec.Struct):
    """One copy of an everywhere- or count-service on this node."""

    name: ServiceName
    state: CopyState = CopyState.IDLE
    op: OpId = NO_OP
    failures: int = 0


class Ward(msgspec.Struct):
    """A node that this machine stewards. ``session`` is what was read before its BMC was asked (rule 10).

    ``early`` is the latest op on the way to an early close: answers to older ones are void, because the session read
    since was not asked about. ``step`` is the step whose answer is awaited, empty if none; ``action`` the power action
    decided on; ``due`` that the wait before the next power action is over; ``patient`` that a machine found running may
    be on its way up by itself and is given the time of a boot first: we did not see it fail, or its BMC was silent.
    ``trouble`` is what its BMC last failed with, ``stage`` how far its boot came, ``console`` what was read of its
    console (None: not asked yet), ``restarted_from`` the boot from which it was last let restart into a new image.
    """

    node: NodeId
    node_synced: bool = False
    power_synced: bool = False
    record: NodeRecord | None = None
    version: int = -1
    power: PowerRecord | None = None
    power_version: int = -1
    silent: bool = False
    told_not_off: bool = False
    session: SessionId = NO_SESSION
    early: OpId = NO_OP
    op: OpId = NO_OP
    step: str = ""
    action: str = ""
    fence: bool = False
    due: bool = False
    patient: bool = True
    failures: int = 0
    trouble: str = ""
    stage: str = ""
    console: str | None = None
    restarted_from: BootId = BootId("")


class DomainWork(msgspec.Struct):
    """A power domain in which this machine wants slots (``waiting``), gives some back, or has ordered some."""

    version: int = -1
    synced: bool = False
    slots: tuple[Slot, ...] = ()
    waiting: list[NodeId] = []
    releasing: list[NodeId] = []
    ordering: list[NodeId] = []
    proposed: tuple[Slot, ...] = ()
    op: OpId = NO_OP
    first_seen_at_ms: dict[str, int] = {}


class Loss(msgspec.Struct, frozen=True, array_like=True):
    at_ms: int
    node: NodeId


class Brake(msgspec.Struct):
    """The storm brake: who disappeared within the window, and since when fencing is paused."""

    losses: list[Loss] = []
    missing: dict[str, int] = {}
    engaged: bool = False

    @property
    def stirred(self) -> bool:
        """Whether anybody disappeared lately."""
        return self.engaged or bool(self.losses or self.missing)


class Join(msgspec.Struct, frozen=True, array_like=True):
    """A machine that was admitted and is to be noted in its node's record; ``tries``: how often that was tried."""

    node: NodeId
    guid: Guid
    mac: str
    certificate: str
    tries: int = 0


class Upgrading(msgspec.Struct):
    """This node's part in a change of image.

    ``step``: what it does about its own turn, for ``image``; ``kept``: the image it settled on; ``settled``: in its
    turn, whether everything that should run here does. Where it owns the duty: since when it waits for a turn
    (``waits``), since when that node is ``back``, and ``good``, what was asked for when (``asked``), ``op`` what
    it writes, ``version`` what its last write left.
    """

    step: str = ""
    image: ImageId = NO_IMAGE
    kept: ImageId = NO_IMAGE
    op: OpId = NO_OP
    settled: bool = False
    version: int = -1
    chosen: list[Turn] = []
    waits: dict[str, int] = {}
    back: dict[str, int] = {}
    good: dict[str, int] = {}
    asked: dict[str, int] = {}


class Phase(StrEnum):
    """Where this node stands with its own membership."""

    NEW = "new"
    CONNECTING = "connecting"
    STOPPING = "stopping"
    READING = "reading"
    CLOSING_OLD = "closing_old"
    REGISTERING = "registering"
    JOINED = "joined"
    OUT = "out"
    LEAVING = "leaving"
    GONE = "gone"


class State(msgspec.Struct):
    """The whole memory of a machine."""

    now_at_ms: int = 0
    next_op: int = 1
    ops: dict[int, Pending] = {}
    boot_id: BootId = BootId("")
    session: SessionId = NO_SESSION
    saved_session: SessionId = NO_SESSION
    phase: Phase = Phase.NEW
    hand_over: bool = False
    joined_at_ms: int = -1
    storage_ok: bool = True
    server: str = ""
    server_op: OpId = NO_OP
    own: NodeRecord | None = None
    own_version: int = -1
    member_version: int = -1
    member_op: OpId = NO_OP
    synced: dict[str, bool] = {}
    attempts: int = 0
    unanswered: int = 0
    drain_op: OpId = NO_OP
    unfit_until_ms: dict[str, int] = {}
    nowhere: dict[str, bool] = {}
    missing: dict[str, str] = {}
    mirror: dict[str, Change] = {}
    singletons: dict[str, Singleton] = {}
    copies: dict[str, Copy] = {}
    wards: dict[str, Ward] = {}
    domains: dict[str, DomainWork] = {}
    blocks: dict[str, int] = {}
    machine_of: dict[str, Guid] = {}
    scanning: dict[str, OpId] = {}
    news: dict[str, list[tuple[str, NodeId, str]]] = {}
    joins: dict[int, Join] = {}
    refusals: list[str] = []
    image: ImageId = NO_IMAGE
    upgrade: Upgrading = msgspec.field(default_factory=Upgrading)
    brake: Brake = msgspec.field(default_factory=Brake)
    ensemble_op: OpId = NO_OP
    dead_voters: dict[str, int] = {}
    listening: list[NodeId] = []
    timers: dict[str, int] = {}
