"""Powering a ward: ask its BMC, get a slot in its power domain, order with a date, see it boot (rules 8 and 9)."""

from typing import Literal

import msgspec

from core import boots, ensemble, quarantine
from core import effects as fx
from core.brain import Brain
from core.events import Committed, OpFailed, OpSucceeded, PowerSeen
from core.ids import DomainId, NodeId
from core.lifecycle import TRANSITIONS, after
from core.records import (
    Change,
    DomainRecord,
    Lifecycle,
    NodeRecord,
    PowerRecord,
    Slot,
    domain_path,
    node_path,
    power_path,
)
from core.state import NO_OP, DomainWork, Pending, Subject, Ward

ME = Subject.WARD
L = Lifecycle
SEEN_TWICE = 2
"""Boot times after which a slot that nobody gave back is taken to be forgotten."""


def tend(b: Brain, ward: Ward) -> None:
    """Do the next thing for a ward that is not a member and may be powered."""
    record = ward.record
    if record is None or ward.step or _is_waiting(b, record):
        return
    timer = f"ward/{ward.node}"
    if not ward.due:
        if timer not in b.state.timers:
            b.timer_in(timer, _first_wait_ms(b, record))
        return
    ward.due = False
    if quarantine.is_hopeless(b, ward, record):
        if quarantine.give_up(b, ward, record):
            _give_back(b, record.power_domain, ward.node)
        return
    if record.state is L.BOOTING:
        b.note("boot_timeout", node=ward.node)
    ward.step = "ask_power"
    ward.op = b.op(ME, ward.node, "ask_power")
    b.emit(fx.ReadPower(op=ward.op, node=ward.node, ms_max=b.timing.power_ms_max))


def _is_waiting(b: Brain, record: NodeRecord) -> bool:
    work = b.state.domains.get(record.power_domain)
    return work is not None and (record.node in work.waiting or record.node in work.ordering)


def _first_wait_ms(b: Brain, record: NodeRecord) -> int:
    match record.state:
        case L.DISCOVERED:
            return b.timing.retry_ms
        case L.LOST:
            return 0 if _must_fence(b, record) else b.timing.recover_ms + _backoff_ms(b, record)
        case L.BOOTING:
            return b.timing.boot_ms_max + _backoff_ms(b, record)
        case _:
            return 2 * b.timing.power_ms_max


def _backoff_ms(b: Brain, record: NodeRecord) -> int:
    """How much longer to leave a node alone that has been powered before: doubling with every attempt."""
    tried = record.attempts - 1
    return min(b.timing.backoff_ms << min(tried, 16), b.timing.backoff_ms_max) if tried >= 0 else 0


def _must_fence(b: Brain, record: NodeRecord) -> bool:
    """Whether a lost node holds, or was ousted from, a service that asks for a power fence: nothing is waited for.

    A volume is fenced at the storage (rule 3), and its next holder needs the disks of that node just now: no hurry.
    """
    if record.state is not L.LOST:
        return False
    terms = [b.term(spec.name)[0] for spec in b.specs.values() if spec.power_fence and not spec.volume]
    held = [term for term in terms if term is not None]
    return any(term.ousted == record.node or (term.holder == record.node and not term.stopped) for term in held)


def on_answer(b: Brain, ward: Ward, step: str, event: OpSucceeded | OpFailed) -> None:
    """Take the BMC's answer to a question or an order, or the commit that a powered node is booting."""
    ward.step = ""
    result = event.result if isinstance(event, OpSucceeded) else None
    if step == "console":
        quarantine.on_console(b, ward, event)
    elif step == "powered":
        if isinstance(result, Committed) and ward.record is not None and (ward.record.state, "powered") in TRANSITIONS:
            ward.record = msgspec.structs.replace(ward.record, state=after(ward.record.state, "powered"))
            ward.version = max(ward.version, result.versions[0])
        wait_ms = b.timing.boot_ms_max if ward.record is None else _first_wait_ms(b, ward.record)
        b.timer_in(f"ward/{ward.node}", wait_ms)
        work = b.state.domains.get(ward.record.power_domain) if ward.record is not None else None
        if work is not None and ward.record is not None:
            pump(b, ward.record.power_domain, work)
    elif not isinstance(result, PowerSeen):
        _power_failed(b, ward, event.detail if isinstance(event, OpFailed) else "")
    elif step == "ask_power":
        _decide(b, ward, result.on)
    elif result.on:
        _powered(b, ward)
    else:
        _power_failed(b, ward, "the BMC still reports it off")


def _power_failed(b: Brain, ward: Ward, detail: str) -> None:
    ward.trouble = f"its BMC fails: {detail or 'no answer'}"
    if not ward.failures:
        b.note("power_failed", node=ward.node, detail=detail)
    _ask_later(b, ward)


def _ask_later(b: Brain, ward: Ward) -> None:
    """Give the slot back and ask the BMC again after a while: longer each time."""
    ward.failures += 1
    if ward.record is not None:
        _give_back(b, ward.record.power_domain, ward.node)
    ward.patient = True
    delay = min(b.timing.backoff_ms << min(ward.failures - 1, 8), b.timing.ask_ms_max)
    b.timer_in(f"ward/{ward.node}", delay)


def _decide(b: Brain, ward: Ward, on: bool) -> None:
    record = ward.record
    if record is None or ward.node in b.members:
        return
    if on and quarantine.is_strange(b, record):
        ward.trouble = "it runs, and this rack did not start it"
        if not ward.failures:
            b.note("found_running", node=ward.node)
        _ask_later(b, ward)
        return
    waits = record.state is L.DISCOVERED or (record.state is L.LOST and not _must_fence(b, record))
    if on and ward.patient and waits:
        ward.patient = False
        b.timer_in(f"ward/{ward.node}", b.timing.boot_ms_max)
        return
    if on and record.state in (L.POWERING, L.RECOVERING) and ward.power is not None and ward.power.action == "on":
        ward.fence = False
        _powered(b, ward)  # it was off when the order was committed: what runs there now has booted since
        return
    ward.action = "cycle" if on else "on"
    ward.fence = on
    work = b.state.domains.get(record.power_domain)
    if work is None:
        work = b.state.domains[record.power_domain] = DomainWork()
        b.emit(fx.Mirror(path=domain_path(record.power_domain), depth="one"))
    work.waiting.append(ward.node)
    pump(b, record.power_domain, work)


def _powered(b: Brain, ward: Ward) -> None:
    b.note("power_fence_confirmed" if ward.fence else "power_confirmed", node=ward.node)
    ward.failures = 0
    record = ward.record
    if record is None or (record.state, "powered") not in TRANSITIONS:
        b.timer_in(f"ward/{ward.node}", b.timing.boot_ms_max)
        return
    b.note("booting", node=ward.node)
    new = msgspec.structs.replace(record, state=after(record.state, "powered"), reason="powered on, booting")
    ward.step = "powered"
    ward.op = b.commit(ME, ward.node, "powered", (fx.Put(path=node_path(ward.node), data=new, version=ward.version),))


def settled(b: Brain, ward: Ward) -> None:
    """The ward is a member again: whatever we were about to do to its power is void (rule 9)."""
    ward.step, ward.action, ward.due, ward.patient, ward.failures = "", "", False, False, 0
    b.cancel(f"ward/{ward.node}")
    work = b.state.domains.get(ward.record.power_domain) if ward.record is not None else None
    if work is not None and ward.record is not None and any(s.fence and s.node == ward.node for s in work.slots):
        _give_back(b, ward.record.power_domain, ward.node)  # it came back before the fence: that is over now
    forget(b, ward.node)


def forget(b: Brain, node: NodeId) -> None:
    for domain in list(b.state.domains):
        work = b.state.domains[domain]
        if node in work.waiting:
            work.waiting.remove(node)
        _drop_if_idle(b, DomainId(domain), work)


# -- slots of a power domain -------------------------------------------------------------------------------------------


def _give_back(b: Brain, domain: DomainId, node: NodeId) -> None:
    work = b.state.domains.get(domain)
    if work is None:
        return
    if node in work.waiting:
        work.waiting.remove(node)
    if any(slot.node == node for slot in work.slots) and node not in work.releasing:
        work.releasing.append(node)
    pump(b, domain, work)


def on_domain(b: Brain, change: Change) -> None:
    domain = DomainId(change.path.rsplit("/", 1)[1])
    work = b.state.domains.get(domain)
    if work is None:
        return
    work.synced = True
    record = change.data if isinstance(change.data, DomainRecord) else None
    work.version = change.version if record is not None else -1
    work.slots = record.slots if record is not None else ()
    keys = {f"{slot.node}/{slot.generation}": b.now for slot in work.slots}
    work.first_seen_at_ms = {key: work.first_seen_at_ms.get(key, at_ms) for key, at_ms in keys.items()}
    pump(b, domain, work)


def _taken(b: Brain, work: DomainWork) -> list[Slot]:
    """Slots that still count: their node is not back, not given back, and not forgotten by its steward.

    A fence that we ordered is no longer in flight once the BMC has confirmed it: its slot is then one of a boot.
    """
    forgotten_ms = SEEN_TWICE * b.timing.boot_ms_max
    return [
        msgspec.structs.replace(slot, fence=slot.fence and not _is_booting(b, slot.node))
        for slot in work.slots
        if (slot.fence or slot.node not in b.members)
        and slot.node not in work.releasing
        and b.now - work.first_seen_at_ms.get(f"{slot.node}/{slot.generation}", b.now) < forgotten_ms
    ]


def _is_booting(b: Brain, node: NodeId) -> bool:
    ward = b.state.wards.get(node)
    return ward is not None and ward.record is not None and ward.record.state is L.BOOTING and not ward.step


def pump(b: Brain, domain: DomainId, work: DomainWork) -> None:
    """Order as many of the waiting as there are slots, at most one fence at a time and none under the brake.

    A lost node whose ZooKeeper server may be what keeps the quorum is not fenced either (rule 8).
    """
    if not work.synced or work.op != NO_OP or not b.joined:
        return
    taken = [slot for slot in _taken(b, work) if slot.node not in work.waiting]
    chosen: list[Ward] = []
    fencing = any(slot.fence for slot in taken)
    for node in work.waiting:
        ward = b.state.wards.get(node)
        if ward is None or not _may_order(ward) or len(taken) + len(chosen) >= b.timing.inrush_slots:
            continue
        if ward.fence and (fencing or b.state.brake.engaged or not ensemble.may_lose(b, node, ())):
            continue
        fencing = fencing or ward.fence
        chosen.append(ward)
    confirmed = any(slot.fence and _is_booting(b, slot.node) for slot in work.slots)
    if chosen or work.releasing or confirmed:
        _commit_orders(b, domain, work, taken, chosen)
    elif work.waiting:
        b.timer_in(f"domain/{domain}", b.timing.boot_ms_max)
    else:
        _drop_if_idle(b, domain, work)


def _may_order(ward: Ward) -> bool:
    """Whether its record, which may be newer than the wish to power it, still allows an order."""
    return ward.record is not None and (ward.record.state, "power_ordered") in TRANSITIONS


def _commit_orders(b: Brain, domain: DomainId, work: DomainWork, taken: list[Slot], chosen: list[Ward]) -> None:
    writes: list[fx.Write] = []
    slots = list(taken)
    for ward in chosen:
        record = ward.record
        if record is None:
            continue
        power = ward.power or PowerRecord()
        order = msgspec.structs.replace(power, generation=power.generation + 1, action=ward.action, by=b.me.id)
        state = after(record.state, "power_ordered")
        attempts = record.attempts if ward.failures else record.attempts + 1  # nothing boots without mains or a BMC
        new = msgspec.structs.replace(record, state=state, attempts=attempts, reason=f"power {ward.action}", console="")
        slots.append(Slot(node=ward.node, generation=order.generation, fence=ward.fence))
        path = power_path(ward.node)
        create, put = fx.Create(path=path, data=order), fx.Put(path=path, data=order, version=ward.power_version)
        writes += [create if ward.power is None else put]
        writes += [fx.Put(path=node_path(ward.node), data=new, version=ward.version)]
        ward.record, ward.power = new, order
    path, data = domain_path(domain), DomainRecord(slots=tuple(slots))
    first: fx.Write = fx.Put(path=path, data=data, version=work.version)
    if work.version < 0:
        first = fx.Create(path=path, data=data)
    work.proposed = tuple(slots)
    work.ordering = [ward.node for ward in chosen]
    work.waiting = [node for node in work.waiting if node not in work.ordering]
    work.op = b.commit(Subject.DOMAIN, domain, "order", (first, *writes))


def on_committed(b: Brain, pending: Pending, event: OpSucceeded | OpFailed) -> None:
    """The orders are durable: send them, each with its generation and deadline; or try again."""
    work = b.state.domains.get(pending.key)
    if work is None or work.op != event.op:
        return
    work.op = NO_OP
    ordered, work.ordering = work.ordering, []
    domain = DomainId(pending.key)
    if isinstance(event, OpFailed) or not isinstance(event.result, Committed):
        for node in ordered:
            _refused(b, node)
        b.timer_in(f"domain/{domain}", b.calm_backoff(1, domain))
        return
    versions = event.result.versions
    work.version = max(work.version, versions[0])
    work.slots = work.proposed
    work.releasing = [node for node in work.releasing if any(slot.node == node for slot in work.slots)]
    for index, node in enumerate(ordered):
        ward = b.state.wards.get(node)
        if ward is not None and node not in b.members:
            ward.power_version = max(ward.power_version, versions[1 + 2 * index])
            ward.version = max(ward.version, versions[2 + 2 * index])
            generation = next(slot.generation for slot in work.slots if slot.node == node)
            _send(b, ward, generation, pending.asked_ms + b.timing.power_ms_max)
    pump(b, domain, work)


def _refused(b: Brain, node: NodeId) -> None:
    """The order was not committed: forget what we wrote ahead and look at the ward afresh."""
    ward = b.state.wards.get(node)
    if ward is None:
        return
    record, power = b.record(node_path(node)), b.record(power_path(node))
    ward.record = record if isinstance(record, NodeRecord) else None
    ward.power = power if isinstance(power, PowerRecord) else None
    b.timer_in(f"look/{node}", b.calm_backoff(2, node))


def _send(b: Brain, ward: Ward, generation: int, deadline_ms: int) -> None:
    """Send an order, dated from when its commit was asked for: a paused steward must not send it late (rule 9)."""
    action: Literal["on", "cycle"] = "cycle" if ward.action == "cycle" else "on"
    ward.step = "power"
    ward.op = b.op(ME, ward.node, "power")
    b.note("power_ordered", node=ward.node, detail=f"{action}, generation {generation}")
    boots.allow(b, ward)
    b.emit(
        fx.PowerOrder(
            op=ward.op,
            node=ward.node,
            action=action,
            generation=generation,
            deadline_ms=deadline_ms,
        )
    )


def on_domain_timer(b: Brain, domain: DomainId) -> None:
    work = b.state.domains.get(domain)
    if work is not None:
        pump(b, domain, work)


def brake_released(b: Brain) -> None:
    for domain, work in list(b.state.domains.items()):
        pump(b, DomainId(domain), work)


def _drop_if_idle(b: Brain, domain: DomainId, work: DomainWork) -> None:
    if not work.waiting and not work.releasing and not work.ordering and work.op == NO_OP:
        if not any(slot.node in b.state.wards and (slot.fence or slot.node not in b.members) for slot in work.slots):
            del b.state.domains[domain]
            b.emit(fx.Unmirror(path=domain_path(domain)))
            b.cancel(f"domain/{domain}")
