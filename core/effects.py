"""Everything a machine can ask of its host: a closed union of frozen records, also the journal's wire format.

An effect with an ``op`` is answered by exactly one ``OpSucceeded`` or ``OpFailed`` (unless the agent dies first). The
others are standing orders or facts and are not answered. ``*_ms_max`` bounds how long the driver may try.
"""

from typing import Literal

import msgspec

from core.ids import NO_GUID, NO_IMAGE, Epoch, Guid, ImageId, NodeId, OpId, ServiceName, SessionId, VolumeName
from core.records import AnyRecord, Instance


class Effect(msgspec.Struct, frozen=True, kw_only=True, tag=True, tag_field="effect"):
    """What every effect has in common."""


# -- the host itself ---------------------------------------------------------------------------------------------------


class SetTimer(Effect, frozen=True, kw_only=True):
    """Send ``TimerFired(timer)`` at ``at_ms`` of the node's clock (at once if past). Replaces a timer of that name."""

    timer: str
    at_ms: int


class CancelTimer(Effect, frozen=True, kw_only=True):
    timer: str


class Note(Effect, frozen=True, kw_only=True):
    """A fact for people: timeline, status, expectations. ``kind`` is one of ``core.notes.NOTES``."""

    kind: str
    service: ServiceName = ServiceName("")
    node: NodeId = NodeId("")
    epoch: Epoch = Epoch(0)
    detail: str = ""


class Exit(Effect, frozen=True, kw_only=True):
    """The agent has handed everything over and ends."""


# -- coordination ------------------------------------------------------------------------------------------------------


class Check(msgspec.Struct, frozen=True, kw_only=True, tag="check", tag_field="write"):
    """Fails the transaction unless ``path`` exists at ``version``."""

    path: str
    version: int


class Create(msgspec.Struct, frozen=True, kw_only=True, tag="create", tag_field="write"):
    """Fails the transaction if ``path`` exists. An ephemeral belongs to the session of the commit."""

    path: str
    data: AnyRecord
    ephemeral: bool = False


class Put(msgspec.Struct, frozen=True, kw_only=True, tag="put", tag_field="write"):
    """Fails the transaction unless ``path`` exists at ``version``."""

    path: str
    data: AnyRecord
    version: int


class Remove(msgspec.Struct, frozen=True, kw_only=True, tag="remove", tag_field="write"):
    """Fails the transaction unless ``path`` exists at ``version``."""

    path: str
    version: int


Write = Check | Create | Put | Remove


class OpenSession(Effect, frozen=True, kw_only=True):
    """Connect and keep connecting; ``SessionOpened`` follows. Tries to take up ``resume`` first if it is not 0."""

    resume: SessionId


class Commit(Effect, frozen=True, kw_only=True):
    """One transaction, all or nothing, in ``session`` only. ``unanswered`` leaves its outcome unknown."""

    op: OpId
    session: SessionId
    writes: tuple[Write, ...]
    ms_max: int


class Read(Effect, frozen=True, kw_only=True):
    """Read paths in ``session`` so that the answer contains every earlier commit of it (sync, then read)."""

    op: OpId
    session: SessionId
    paths: tuple[str, ...]
    ms_max: int


class CloseSession(Effect, frozen=True, kw_only=True):
    """Close another's session (or the own one, when handing over) by its id."""

    op: OpId
    session: SessionId
    ms_max: int


class Mirror(Effect, frozen=True, kw_only=True):
    """Keep ``RecordsChanged`` coming for ``path``, first with ``resync`` and again after every reconnect.

    ``tree``: all below it, with data. ``names``: its direct children, but only their creation, deletion and the data
    they had then. ``one``: that path itself. A mirror ends with the session.
    """

    path: str
    depth: Literal["tree", "names", "one"]


class Unmirror(Effect, frozen=True, kw_only=True):
    path: str


class Reconfigure(Effect, frozen=True, kw_only=True):
    """Change the ensemble's voters in one step, if its configuration is still ``config``."""

    op: OpId
    joining: tuple[NodeId, ...]
    leaving: tuple[NodeId, ...]
    config: int
    ms_max: int


class StartServer(Effect, frozen=True, kw_only=True):
    """Run this node's ZooKeeper server; done once it has caught up (or, before any quorum exists, runs).

    ``members``: who else is in the ensemble it joins.
    """

    op: OpId
    members: tuple[NodeId, ...]


class StopServer(Effect, frozen=True, kw_only=True):
    op: OpId


class ListenTo(Effect, frozen=True, kw_only=True):
    """Listen to exactly these nodes' heartbeats from now on (``PeerSilent``, ``PeerHeard``)."""

    nodes: tuple[NodeId, ...]


# -- evidence and rights (rules 5 and 11) ------------------------------------------------------------------------------


class StartBeat(Effect, frozen=True, kw_only=True):
    """Ask for evidence every ``every_ms`` from now on.

    ``coordination``: a commit of nothing but checks (lease and term) in ``session``; asked by the agent, ends with it.
    ``storage``: a probe write through ``instance``, asked by the supervisor: it outlives the agent, and each success
    pushes the armed right to ``asked_ms + fresh_ms``.
    """

    service: ServiceName
    epoch: Epoch
    kind: Literal["coordination", "storage"]
    every_ms: int
    fresh_ms: int
    session: SessionId = SessionId(0)
    checks: tuple[Check, ...] = ()
    volume: VolumeName = VolumeName("")
    instance: Instance | None = None


class StopBeat(Effect, frozen=True, kw_only=True):
    service: ServiceName
    epoch: Epoch
    kind: Literal["coordination", "storage"]


class ArmRight(Effect, frozen=True, kw_only=True):
    """Let the service serve until ``until_ms`` (own clock), enforced outside the agent. Only pushes forward."""

    service: ServiceName
    epoch: Epoch
    until_ms: int


# -- storage -----------------------------------------------------------------------------------------------------------


class OpenVolume(Effect, frozen=True, kw_only=True):
    """Open the volume under a new client instance, in exclusive mode, without writing; result ``VolumeOpened``."""

    op: OpId
    service: ServiceName
    volume: VolumeName
    epoch: Epoch
    ms_max: int


class CloseVolume(Effect, frozen=True, kw_only=True):
    """Flush and close; ``OpSucceeded`` only if everything reached the storage."""

    op: OpId
    volume: VolumeName
    instance: Instance
    ms_max: int


class FenceInstance(Effect, frozen=True, kw_only=True):
    """Make every later write of ``instance`` fail, for at least ``block_ms``; done only after the barrier (rule 6)."""

    op: OpId
    volume: VolumeName
    instance: Instance
    block_ms: int
    ms_max: int


class LiftBlock(Effect, frozen=True, kw_only=True):
    """Forget a fenced instance whose hardware has booted again."""

    op: OpId
    volume: VolumeName
    instance: Instance


# -- workload and address ----------------------------------------------------------------------------------------------


class StartService(Effect, frozen=True, kw_only=True):
    """Mount ``instance`` (if any), recover and start; done when healthy. From here on the volume is written."""

    op: OpId
    service: ServiceName
    epoch: Epoch
    instance: Instance | None
    ms_max: int


class StopService(Effect, frozen=True, kw_only=True):
    """Stop, unmount; result ``Stopped``. ``kill``: at once and not clean."""

    op: OpId
    service: ServiceName
    epoch: Epoch
    kill: bool
    ms_max: int


class SuspendService(Effect, frozen=True, kw_only=True):
    """Cut the service's connections, take its address off and freeze it, within ``Timing.withdraw_ms``."""

    service: ServiceName
    epoch: Epoch


class ResumeService(Effect, frozen=True, kw_only=True):
    """Undo ``SuspendService``, up to the address."""

    service: ServiceName
    epoch: Epoch


class AnnounceAddress(Effect, frozen=True, kw_only=True):
    """Bring the service's address up here and tell the switches; it goes off by itself when the right expires."""

    service: ServiceName
    epoch: Epoch


class WithdrawAddress(Effect, frozen=True, kw_only=True):
    service: ServiceName
    epoch: Epoch


# -- power and netboot -------------------------------------------------------------------------------------------------


class ReadPower(Effect, frozen=True, kw_only=True):
    """Ask the BMC; result ``PowerSeen``. Silence is ``OpFailed``, never "off"."""

    op: OpId
    node: NodeId
    ms_max: int


class PowerOrder(Effect, frozen=True, kw_only=True):
    """Switch a node's power, unless ``deadline_ms`` (own clock) has passed; read back, result ``PowerSeen``.

    ``on`` also sets the boot device to the network once. "Already so" is success.
    """

    op: OpId
    node: NodeId
    action: Literal["on", "off", "cycle"]
    generation: int
    deadline_ms: int


class AllowBoot(Effect, frozen=True, kw_only=True):
    """Let this node boot from the network and join within the next ``ms_max``, once; others are not served.

    ``guid``: the machine that it must be, ``macs`` what it must boot with; empty: not known yet. ``image``: what it is
    to boot, empty: what this node runs. Replaces an earlier window of the node. ``BootSeen``, ``JoinAdmitted`` and
    ``JoinRefused`` tell what comes of it.
    """

    node: NodeId
    ms_max: int
    guid: Guid = NO_GUID
    macs: tuple[str, ...] = ()
    image: ImageId = NO_IMAGE


class ReadConsole(Effect, frozen=True, kw_only=True):
    """What a machine last wrote on its serial console; result ``ConsoleSeen``."""

    op: OpId
    node: NodeId
    ms_max: int


class Scan(Effect, frozen=True, kw_only=True):
    """Look for BMCs in a management network, and try the credentials given for it; result ``Scanned``."""

    op: OpId
    network: str
    ms_max: int


# -- images ------------------------------------------------------------------------------------------------------------


class StageImage(Effect, frozen=True, kw_only=True):
    """Fetch and verify an image and put it into the slot that is not running; result ``Staged``."""

    op: OpId
    image: ImageId
    ms_max: int


class RestartInto(Effect, frozen=True, kw_only=True):
    """Restart this machine into the staged image, once: if it does not settle, the next boot is the old image again."""

    image: ImageId


class KeepImage(Effect, frozen=True, kw_only=True):
    """The image that runs is good: boot it from now on."""

    image: ImageId


AnyEffect = (
    SetTimer
    | CancelTimer
    | Note
    | Exit
    | OpenSession
    | Commit
    | Read
    | CloseSession
    | Mirror
    | Unmirror
    | Reconfigure
    | StartServer
    | StopServer
    | ListenTo
    | StartBeat
    | StopBeat
    | ArmRight
    | OpenVolume
    | CloseVolume
    | FenceInstance
    | LiftBlock
    | StartService
    | StopService
    | SuspendService
    | ResumeService
    | AnnounceAddress
    | WithdrawAddress
    | ReadPower
    | PowerOrder
    | AllowBoot
    | ReadConsole
    | Scan
    | StageImage
    | RestartInto
    | KeepImage
)
