"""Machines that nobody has listed: looking for them, naming them, and noting which must be left alone (design 2.2).

Whoever owns the duty of a management network on the ring asks for a look at it again and again. A machine becomes a
node in one transaction with its name, so two observers with different views cannot name it twice.
"""

import msgspec

from core import effects as fx
from core.brain import Brain
from core.events import OpFailed, OpSucceeded, Scanned, Seen
from core.gate import forms, identity
from core.ids import Guid, NodeId
from core.records import MACHINES, Change, Lifecycle, MachineRecord, NodeRecord, machine_path, node_path
from core.state import Pending, Subject

ME = Subject.DISCOVERY
WRITES_MAX = 64
"""Writes of one transaction: what is left over is written after the next look."""


def begin(b: Brain) -> None:
    """Follow the records of machines, if there is any network to look in."""
    if b.opening.networks:
        b.emit(fx.Mirror(path=MACHINES, depth="tree"))


def on_machine(b: Brain, change: Change) -> None:
    """A machine's record changed: remember which one is which node."""
    record = change.data
    if not isinstance(record, MachineRecord):
        return
    if record.node:
        b.state.machine_of[record.node] = record.guid
        b.arc_changed = b.arc_changed or record.node in b.state.wards


def machine_of(b: Brain, node: NodeId) -> tuple[MachineRecord | None, int]:
    """The machine that is a node, and its record's version (-1 if it is not known)."""
    change = b.known(machine_path(Guid(b.state.machine_of.get(node, ""))))
    if change is None or not isinstance(change.data, MachineRecord):
        return None, -1
    return change.data, change.version


def review(b: Brain) -> None:
    """Look at every network whose duty is ours, if it is time."""
    if MACHINES not in b.state.synced:
        return
    for network in b.opening.networks:
        timer = f"scan/{network}"
        mine = b.ring.owner_of_key(timer) == b.me.id
        if mine and network not in b.state.scanning and timer not in b.state.timers:
            _look(b, network)


def _look(b: Brain, network: str) -> None:
    op = b.op(ME, network, "scan")
    b.state.scanning[network] = op
    b.emit(fx.Scan(op=op, network=network, ms_max=b.timing.scan_ms_max))


def start_over(b: Brain) -> None:
    """Forget what is under way: mirrors and duties of the old session are gone."""
    for network in b.opening.networks:
        b.cancel(f"scan/{network}")
    b.state.scanning.clear()


def on_answer(b: Brain, pending: Pending, event: OpSucceeded | OpFailed) -> None:
    """Take what a look found, or what became of writing it down."""
    network = pending.key
    if b.state.scanning.get(network) != event.op:
        return
    del b.state.scanning[network]
    if isinstance(event, OpSucceeded) and isinstance(event.result, Scanned):
        writes = _news(b, event.result.seen)
        if writes:
            b.state.scanning[network] = b.commit(ME, network, "write", tuple(writes))
            return
    lost = isinstance(event, OpFailed) and pending.step == "write"
    again = pending.step == "write" and isinstance(event, OpSucceeded)
    b.timer_in(f"scan/{network}", b.calm_backoff(1, network) if lost or again else b.timing.scan_ms)


def _news(b: Brain, seen: tuple[Seen, ...]) -> list[fx.Write]:
    """What to write after a look, whole machines at a time, in the order in which they were seen."""
    notes = _Notes(b)
    writes: list[fx.Write] = []
    for one in seen:
        more = _of_one(b, notes, one)
        if len(writes) + len(more) > WRITES_MAX:
            break
        writes += more
    return writes


class _Notes:
    """What is on record of machines, by identity (whatever order of bytes a BMC shows it in) and by BMC."""

    def __init__(self, b: Brain) -> None:
        self.changes: dict[str, Change] = {}
        self.at_bmc: dict[str, Change] = {}
        self.numbers = {*b.opening.taken, *(spec.number for spec in b.opening.inventory)}
        self.met: dict[str, str] = {}
        for path, change in b.state.mirror.items():
            if path.startswith(MACHINES + "/") and isinstance(change.data, MachineRecord):
                self.changes[identity(change.data.guid)] = change
                self.numbers.add(change.data.number)
                if change.data.node and change.data.bmc:
                    self.at_bmc[change.data.bmc] = change


def _of_one(b: Brain, notes: _Notes, one: Seen) -> list[fx.Write]:
    name = identity(one.guid)
    if not forms(one.guid):
        return _locked(b, notes, one, "its BMC shows no identity")
    if notes.met.setdefault(name, one.bmc) != one.bmc:
        return _locked(b, notes, one, f"its BMC shows the identity of the machine at {notes.met[name]}")
    change = notes.changes.get(name)
    known = change.data if change is not None and isinstance(change.data, MachineRecord) else None
    writes, problem = _who_was_there(b, notes, one, known)
    problem = problem or one.problem
    may = bool(one.access) and not problem
    if change is None or known is None:
        record = MachineRecord(guid=one.guid, bmc=one.bmc, rack=one.rack, power_domain=one.power_domain)
        named, more = _named(b, notes, one, record) if may else (record, [])
        named = msgspec.structs.replace(named, access=one.access, problem=problem)
        if problem:
            b.note("found_locked", detail=f"{one.bmc}: {problem}")
        return [*writes, fx.Create(path=machine_path(one.guid), data=named), *more]
    if known.retired:
        return writes
    new = msgspec.structs.replace(known, bmc=one.bmc, access=one.access or known.access)
    named, more = _named(b, notes, one, new) if may and not known.node else (new, [])
    if may or not known.node:
        named = msgspec.structs.replace(named, problem=problem)
    if named == known:
        return writes
    return [*writes, fx.Put(path=change.path, data=named, version=change.version), *more]


def _who_was_there(b: Brain, notes: _Notes, one: Seen, known: MachineRecord | None) -> tuple[list[fx.Write], str]:
    """Take the BMC from the machine that was behind it before: its steward must not switch another one."""
    change = notes.at_bmc.get(one.bmc)
    before = change.data if change is not None and isinstance(change.data, MachineRecord) else None
    if change is None or before is None or (known is not None and before.guid == known.guid):
        return [], ""
    if before.node in b.members and not before.retired:
        return [], f"{before.node} is alive, yet another machine answers at its BMC"
    gone = msgspec.structs.replace(before, bmc="", problem="another machine answers at its BMC")
    return [fx.Put(path=change.path, data=gone, version=change.version)], ""


def _named(b: Brain, notes: _Notes, one: Seen, record: MachineRecord) -> tuple[MachineRecord, list[fx.Write]]:
    """Make a machine a node: the one that the inventory says it is, or the next number."""
    if one.node and one.node not in b.state.machine_of:
        b.note("found", node=one.node, detail=f"{one.bmc}, machine {one.guid}")
        return msgspec.structs.replace(record, node=one.node, number=one.number), []
    number = 1
    while number in notes.numbers or b.ring.is_known(NodeId(f"n{number}")):
        number += 1
    notes.numbers.add(number)
    node = NodeId(f"n{number}")
    b.note("found", node=node, detail=f"{one.bmc}, machine {one.guid}")
    fresh = NodeRecord(
        node=node, rack=one.rack, power_domain=one.power_domain, state=Lifecycle.DISCOVERED, guid=one.guid
    )
    return msgspec.structs.replace(record, node=node, number=number), [fx.Create(path=node_path(node), data=fresh)]


def _locked(b: Brain, notes: _Notes, one: Seen, problem: str) -> list[fx.Write]:
    """Note a machine that cannot be told from others, by its BMC's address; once."""
    guid = Guid(f"bmc-{one.bmc}")
    if guid in notes.changes:
        return []
    b.note("found_locked", detail=f"{one.bmc}: {problem}")
    record = MachineRecord(
        guid=guid, bmc=one.bmc, rack=one.rack, power_domain=one.power_domain, access=one.access, problem=problem
    )
    return [fx.Create(path=machine_path(guid), data=record)]
