"""Fenced client instances stay fenced until their hardware boots again (rule 6): their node's steward sees to it."""

from core import effects as fx
from core.brain import Brain, replace_term
from core.events import OpFailed, OpSucceeded
from core.ids import ServiceName
from core.records import Instance, TermRecord, term_path
from core.state import Pending, Subject

ME = Subject.BLOCK
RENEWALS = 3
"""Renewals within the life of an entry at the storage."""


def review(b: Brain) -> None:
    """Lift what may be lifted, and keep a timer for renewing the rest."""
    mine = False
    for service in b.state.blocks:
        for instance in _ours(b, service):
            mine = True
            member = b.members.get(instance.node)
            if member is not None and member.boot_id != instance.boot_id:
                _lift(b, service, instance)
    if mine:
        if "blocks" not in b.state.timers:
            b.timer_in("blocks", b.timing.block_ms // RENEWALS)
    else:
        b.cancel("blocks")


def _ours(b: Brain, service: str) -> tuple[Instance, ...]:
    """Blocked instances of a service on nodes that we steward."""
    term, _ = b.term(service)
    if term is None or not b.joined:
        return ()
    return tuple(i for i in term.blocked if b.ring.steward_of(i.node) == b.me.id)


def _lift(b: Brain, service: str, instance: Instance) -> None:
    key = f"{service} {instance.address}"
    if any(p.subject is ME and p.key == key and p.step != "renew" for p in b.state.ops.values()):
        return
    op = b.op(ME, key, "lift")
    b.emit(fx.LiftBlock(op=op, volume=b.specs[service].volume, instance=instance))


def on_timer(b: Brain) -> None:
    """Renew every entry at the storage that we answer for: an expired one would un-fence."""
    for service in b.state.blocks:
        for instance in _ours(b, service):
            op = b.op(ME, f"{service} {instance.address}", "renew")
            volume, block, limit = b.specs[service].volume, b.timing.block_ms, b.timing.fence_ms_max
            b.emit(fx.FenceInstance(op=op, volume=volume, instance=instance, block_ms=block, ms_max=limit))
    review(b)


def on_answer(b: Brain, pending: Pending, event: OpSucceeded | OpFailed) -> None:
    """After the storage forgot an entry, the term forgets it too; failures are tried again at the next look."""
    if pending.step == "renew" or isinstance(event, OpFailed):
        if isinstance(event, OpFailed):
            b.timer_in("blocks", b.timing.retry_ms_max)
        return
    if pending.step != "lift":
        b.note("unblocked", pending.key.split(" ")[0])
        return
    service, address = pending.key.split(" ")
    term, version = b.term(service)
    if not isinstance(term, TermRecord) or not any(i.address == address for i in term.blocked):
        return
    left = tuple(i for i in term.blocked if i.address != address)
    put = fx.Put(path=term_path(ServiceName(service)), data=replace_term(term, blocked=left), version=version)
    b.commit(ME, pending.key, "forget", (put,))
