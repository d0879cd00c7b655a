"""Machines that nobody has listed: looking for them, naming them, and noting which must be left alone (design 2.2).

Whoever owns the duty of a management network on the ring asks for a look at it again and again. A machine becomes a
node in one transaction with its name, so two observers with different views cannot name it twice.
"""

import msgspec

from core import effects as fx
from core.brain import Brain
from core.events import OpFailed, OpSucceeded, Scanned, Seen
from core.identity import forms, identity
from core.ids import Guid, NodeId
from core.records import MACHINES, Change, Lifecycle, MachineRecord, NodeRecord, machine_path, node_path
from core.state import Pending, Subject

ME = Subject.DISCOVERY
WRITES_MAX, ROOM = 64, 3
"""Writes of one transaction, and what one machine can take of them: the rest is written after the next look."""


def begin(b: Brain) -> None:
    """Follow the records of machines, if there is any network to look in."""
    if b.opening.networks:
        b.emit(fx.Mirror(path=MACHINES, depth="tree"))


def on_machine(b: Brain, change: Change) -> None:
    """A machine's record changed: remember which one is which node."""
    record = change.data
    if not isinstance(record, MachineRecord):
        return
    b.machines[identity(record.guid)] = change
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
    b.state.news.clear()


def on_answer(b: Brain, pending: Pending, event: OpSucceeded | OpFailed) -> None:
    """Take what a look found, or what became of writing it down."""
    network = pending.key
    if b.state.scanning.get(network) != event.op:
        return
    del b.state.scanning[network]
    if isinstance(event, OpSucceeded) and isinstance(event.result, Scanned):
        writes = _news(b, network, event.result.seen)
        if writes:
            b.state.scanning[network] = b.commit(ME, network, "write", tuple(writes))
            return
    lost = isinstance(event, OpFailed) and pending.step == "write"
    again = pending.step == "write" and isinstance(event, OpSucceeded)
    for kind, node, detail in b.state.news.pop(network, []) if again else []:
        b.note(kind, node=NodeId(node), detail=detail)
    b.timer_in(f"scan/{network}", b.calm_backoff(1, network) if lost or again else b.timing.scan_ms)


def _news(b: Brain, network: str, seen: tuple[Seen, ...]) -> list[fx.Write]:
    """What to write after a look, in the order in which machines were seen; each BMC counts once."""
    if all(_is_known(b, one) for one in seen):
        return []
    book = _Book(b, seen)
    for one in book.seen:
        if len(book.changed) + len(book.nodes) + ROOM > WRITES_MAX:
            break
        _of_one(b, book, one)
    b.state.news[network] = book.notes
    return [*map(book.write, book.changed), *book.nodes]


def _is_known(b: Brain, one: Seen) -> bool:
    """Whether a machine is a node already, behind the same BMC with the same credentials."""
    change = b.machines.get(identity(one.guid))
    record = change.data if change is not None else None
    return (
        isinstance(record, MachineRecord)
        and (bool(record.node) or record.retired)
        and (record.bmc, record.access) == (one.bmc, one.access)
        and not record.problem
    )


class _Book:
    """The records of machines while a look is entered: by identity, whatever order of bytes a BMC shows it in."""

    def __init__(self, b: Brain, seen: tuple[Seen, ...]) -> None:
        self.records: dict[str, MachineRecord] = {}
        self.at_bmc: dict[str, str] = {}
        self.numbers = {*b.opening.taken, *(spec.number for spec in b.opening.inventory)}
        self.named = dict.fromkeys(b.state.machine_of)
        first: dict[str, Seen] = {}
        self.seen = [one for one in seen if first.setdefault(one.bmc, one) is one]
        self.where: dict[str, str] = {}
        self.changed: dict[str, None] = {}
        self.nodes: list[fx.Write] = []
        self.notes: list[tuple[str, NodeId, str]] = []
        self._known: dict[str, Change] = {}
        for one in self.seen:
            self.where.setdefault(identity(one.guid), one.bmc)
        for name, change in b.machines.items():
            if isinstance(change.data, MachineRecord):
                self._known[name] = change
                self._keep(name, change.data)
                self.numbers.add(change.data.number)

    def enter(self, record: MachineRecord) -> None:
        """Take a new or changed record."""
        name = identity(record.guid)
        if self.records.get(name) != record:
            self.changed[name] = None
            self._keep(name, record)

    def _keep(self, name: str, record: MachineRecord) -> None:
        old = self.records.get(name)
        if old is not None and self.at_bmc.get(old.bmc) == name:
            del self.at_bmc[old.bmc]
        self.records[name] = record
        if record.node and record.bmc:
            self.at_bmc[record.bmc] = name

    def write(self, name: str) -> fx.Write:
        """One write for each machine, however often it was changed."""
        known, record = self._known.get(name), self.records[name]
        if known is None:
            return fx.Create(path=machine_path(record.guid), data=record)
        return fx.Put(path=known.path, data=record, version=known.version)


def _of_one(b: Brain, book: _Book, one: Seen) -> None:
    name = identity(one.guid)
    if not forms(one.guid):
        _leave_alone(b, book, one, "its BMC shows no identity")
        return
    if book.where[name] != one.bmc:
        _leave_alone(b, book, one, f"its BMC shows the identity of the machine at {book.where[name]}")
        return
    known = book.records.get(name)
    problem = _take_over(b, book, one, name) or one.problem
    fresh = MachineRecord(guid=one.guid, bmc=one.bmc, rack=one.rack, power_domain=one.power_domain)
    record = msgspec.structs.replace(known or fresh, bmc=one.bmc, access=one.access or (known or fresh).access)
    if known is not None and known.retired:
        return
    if record.node:
        record = msgspec.structs.replace(record, problem="")
    elif one.access and not problem:
        record = msgspec.structs.replace(_named(b, book, one, record), problem="")
    else:
        record = msgspec.structs.replace(record, problem=problem or "no credentials are given for it")
        if known is None:
            book.notes.append(("found_locked", b.me.id, f"{one.bmc}: {record.problem}"))
    book.enter(record)


def _take_over(b: Brain, book: _Book, one: Seen, name: str) -> str:
    """Take the BMC from the machine that was behind it before: its steward must not switch another one.

    Returns why not, if that machine is alive and is not seen behind another BMC.
    """
    before = book.at_bmc.get(one.bmc, name)
    if before == name:
        return ""
    old = book.records[before]
    moved = before in book.where
    if old.node in b.members and not old.retired and not moved:
        return f"{old.node} is alive, yet another machine answers at its BMC"
    book.enter(msgspec.structs.replace(old, bmc="", problem="another machine answers at its BMC"))
    return ""


def _named(b: Brain, book: _Book, one: Seen, record: MachineRecord) -> MachineRecord:
    """Make a machine a node: the one that the inventory says it is, or the next number."""
    if one.node and one.node not in book.named:
        node, number = one.node, one.number
    else:
        number = 1
        while number in book.numbers or b.ring.is_known(NodeId(f"n{number}")):
            number += 1
        node = NodeId(f"n{number}")
        fresh = NodeRecord(
            node=node, rack=one.rack, power_domain=one.power_domain, state=Lifecycle.DISCOVERED, guid=one.guid
        )
        book.nodes.append(fx.Create(path=node_path(node), data=fresh))
    book.numbers.add(number)
    book.named[node] = None
    book.notes.append(("found", node, f"{one.bmc}, machine {one.guid}"))
    return msgspec.structs.replace(record, node=node, number=number)


def _leave_alone(b: Brain, book: _Book, one: Seen, problem: str) -> None:
    """Note a machine that cannot be told from others, by its BMC's address; once."""
    guid = Guid(f"bmc-{one.bmc}")
    if guid not in book.records:
        book.notes.append(("found_locked", b.me.id, f"{one.bmc}: {problem}"))
        book.enter(
            MachineRecord(
                guid=guid, bmc=one.bmc, rack=one.rack, power_domain=one.power_domain, access=one.access, problem=problem
            )
        )
