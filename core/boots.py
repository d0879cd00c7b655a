"""What the boot service of this node tells: how far a machine came, who was admitted as which node, who was refused."""

import msgspec

from core import effects as fx
from core.brain import Brain
from core.discovery import machine_of
from core.events import BootSeen, JoinAdmitted, JoinRefused, OpFailed, OpSucceeded, ReadBack
from core.ids import NO_GUID
from core.records import Lifecycle, NodeRecord, machine_path, node_path
from core.state import Join, Pending, Subject, Ward
from core.upgrade import wanted_image

ME = Subject.BOOT
REFUSALS_MAX = 20
TRIES_MAX = 5
KEPT_MAX = 8
"""Network cards and certificates that are remembered of one machine."""
WORDS = {
    "": "it never asked for an address",
    "offered": "it was offered an address and never asked for its boot script",
    "script": "it was given its boot script and never fetched the kernel",
    "kernel": "it was sent the kernel and never fetched its root image",
    "image": "it was sent its root image and its agent never asked to join",
    "up": "its agent was admitted and it never became a member",
}
"""Why a boot failed, by how far it came."""
STAGES = tuple(WORDS)


def allow(b: Brain, ward: Ward) -> None:
    """Let a ward boot and join, once, as the machine that it is on record."""
    machine, _ = machine_of(b, ward.node)
    record = ward.record
    noted = record.guid if record is not None else NO_GUID
    ward.stage, ward.console = "", None
    b.emit(
        fx.AllowBoot(
            node=ward.node,
            ms_max=b.timing.boot_ms_max,
            guid=machine.guid if machine is not None else noted,
            macs=record.macs if record is not None else (),
            image=wanted_image(b, ward.node),
        )
    )


def take(b: Brain, event: BootSeen | JoinAdmitted | JoinRefused) -> None:
    """Take what the boot service says."""
    match event:
        case BootSeen():
            _on_boot(b, event)
        case JoinAdmitted():
            _on_admitted(b, event)
        case JoinRefused():
            _on_refused(b, event)


def _on_boot(b: Brain, event: BootSeen) -> None:
    """A machine that boots from us came further."""
    ward = b.state.wards.get(event.node)
    if ward is not None and STAGES.index(event.stage) > STAGES.index(ward.stage):  # a boot that begins anew came as far
        ward.stage = event.stage
        detail = f"{event.stage}: {event.detail}" if event.detail else event.stage
        b.note("boot_seen", node=event.node, detail=detail)


def _on_refused(b: Brain, event: JoinRefused) -> None:
    """Somebody must not boot or join: keep it for people to see."""
    whom = f" as {event.node}" if event.node else ""
    said = f"{event.reason}{whom}: {event.detail}"
    b.note("join_refused", node=event.node, detail=f"{event.reason}: {event.detail}")
    b.state.refusals = [*b.state.refusals[1 - REFUSALS_MAX :], said]


def _on_admitted(b: Brain, event: JoinAdmitted) -> None:
    """A machine has its certificate: write down which, and with which network card it came."""
    b.note("join_admitted", node=event.node, detail=f"machine {event.guid} with {event.mac}")
    ward = b.state.wards.get(event.node)
    if ward is not None:
        ward.stage = "up"
    _read(b, Join(event.node, event.guid, event.mac, event.certificate))


def _read(b: Brain, join: Join) -> None:
    op = b.read(ME, join.node, "read", (node_path(join.node),))
    b.state.joins[op] = join


def on_answer(b: Brain, pending: Pending, event: OpSucceeded | OpFailed) -> None:
    """Note a join in the record as it is now; again if somebody else wrote it meanwhile."""
    join = b.state.joins.pop(event.op, None)
    if join is None:
        return
    result = event.result if isinstance(event, OpSucceeded) else None
    if isinstance(result, ReadBack):
        change = result.changes[0]
        if isinstance(change.data, NodeRecord):
            new = msgspec.structs.replace(
                change.data,
                guid=join.guid,
                macs=_with(change.data.macs, join.mac),
                certificates=_with(change.data.certificates, join.certificate),
            )
            op = b.commit(ME, pending.key, "write", (fx.Put(path=change.path, data=new, version=change.version),))
            b.state.joins[op] = join
    elif isinstance(event, OpFailed) and event.reason != "session" and join.tries < TRIES_MAX:
        _read(b, msgspec.structs.replace(join, tries=join.tries + 1))


def _with(known: tuple[str, ...], new: str) -> tuple[str, ...]:
    """What is known and what is new, newest last, each once, and not without bound."""
    return (*(old for old in known if old != new), *([new] if new else []))[-KEPT_MAX:]


def note_retired(b: Brain, ward: Ward) -> bool:
    """Have everybody know that a ward's machine was retired, and which certificate is void; True if that is written."""
    machine, version = machine_of(b, ward.node)
    record = ward.record
    if record is None or machine is None or machine.retired == (record.state is Lifecycle.RETIRED):
        return False
    new = msgspec.structs.replace(machine, retired=not machine.retired, certificates=record.certificates)
    put = fx.Put(path=machine_path(machine.guid), data=new, version=version)
    ward.op = b.commit(Subject.WARD, ward.node, "mark", (put,))
    return True
