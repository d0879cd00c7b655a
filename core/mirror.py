"""What this machine knows of the shared records: deltas in, derived indexes kept up to date."""

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby

from core import brake, evidence, membership
from core.brain import BLOCKS, COPIES, COUNTED, DRAIN, ELECTION, ENSEMBLE_PART, EVERYTHING, ROLLING, Brain
from core.discovery import on_machine
from core.events import RecordsChanged
from core.ids import NodeId, ServiceName
from core.records import (
    DOMAINS,
    LEASES,
    MACHINES,
    MEMBERS,
    NODES,
    SERVICES,
    TERMS,
    Change,
    LeaseRecord,
    MachineRecord,
    MemberRecord,
    NodeRecord,
    TermRecord,
)
from core.recovery import on_domain
from core.steward import on_node, on_nodes, on_power, on_synced, review_if_touched

MANY = 16
"""So many changes at once are worth taking together: each node that joins a large rack learns of all the others."""
_MEMBER_LOOKS = COUNTED | ELECTION | ENSEMBLE_PART | BLOCKS | ROLLING
News = tuple[Change, Change | None]
"""A change, and what was known of its path before."""
TREES = (MEMBERS, TERMS, LEASES, NODES, SERVICES, MACHINES)


def apply(b: Brain, event: RecordsChanged) -> None:
    """Take deltas in order; a change older than what is known of its path is stale and changes nothing."""
    if event.resync:
        _vanish_unlisted(b, event)
    if len(event.changes) < MANY:
        for change, known in _news(b, event.changes):
            _take(b, change, known)
    else:
        for kind, alike in groupby(event.changes, key=_kind_of_record):
            take = _TOGETHER.get(kind, _one_by_one)
            take(b, _news(b, alike))
    if event.resync:
        for root in event.roots:
            _root_synced(b, root)


def _news(b: Brain, changes: Iterable[Change]) -> Iterator[News]:
    """Enter what is new into the mirror, one change after the other."""
    mirror = b.state.mirror
    for change in changes:
        known = mirror.get(change.path)
        if known is None or _is_newer(change, known):
            mirror[change.path] = change
            yield change, known


def _one_by_one(b: Brain, news: Iterator[News]) -> None:
    for change, known in news:
        _take(b, change, known)


def _kind_of_record(change: Change) -> type:
    return type(change.data)


def _is_newer(change: Change, known: Change) -> bool:
    if change.zxid != known.zxid:
        return change.zxid > known.zxid
    return (change.data is None) != (known.data is None)


def _vanish_unlisted(b: Brain, event: RecordsChanged) -> None:
    listed = {change.path for change in event.changes}
    mirror = b.state.mirror
    for root in event.roots:
        below = [path for path in mirror if path.startswith(root + "/")] if root in TREES else []
        for path in (root, *below):
            known = mirror.get(path)
            if known is not None and known.data is not None and path not in listed:
                gone = Change(path=path, zxid=known.zxid)
                mirror[path] = gone
                _take(b, gone, known)


def _take(b: Brain, change: Change, known: Change | None) -> None:
    kind = change.path.split("/", 3)[2]
    if kind == "members":
        _member(b, change, known)
        return
    look, take = _KINDS.get(kind, _NOTHING)
    b.look |= look
    if take is not None:
        take(b, change)


def _root_synced(b: Brain, root: str) -> None:
    """A path that does not exist is news too: its watcher must know that it was looked at."""
    if root in TREES:
        b.state.synced[root] = True
        b.state.unanswered = 0
        b.cancel("refresh")
        for service in b.state.singletons:
            if f"retry/{service}" in b.state.timers:
                b.timer_in(f"retry/{service}", 0)  # a quorum answers again
        b.look = EVERYTHING
        b.arc_changed = True
    elif root.startswith(DOMAINS + "/"):
        on_domain(b, b.state.mirror.get(root, Change(path=root, zxid=0)))
    else:
        on_synced(b, root)


def _member(b: Brain, change: Change, known: Change | None) -> None:
    """A member came, changed or went."""
    b.look |= _MEMBER_LOOKS
    new = change.data
    if isinstance(new, MemberRecord):
        b.ring.set_member(new.node, True)
        place_member(b, new)
        if new.node == b.me.id:
            membership.on_own_member(b, change)
        if known is None or known.data is None or known.owner != change.owner:
            brake.on_return(b, new.node)
            review_if_touched(b, new.node)
        return
    old = known.data if known is not None else None
    if isinstance(old, MemberRecord):
        forget_member(b, old.node)
        if old.node != b.me.id:
            brake.on_loss(b, old.node)
        review_if_touched(b, old.node)


def _members(b: Brain, news: Iterator[News]) -> None:
    """Members came or changed together: the ring is put in order once."""
    b.look |= _MEMBER_LOOKS
    arrived: dict[NodeId, None] = {}
    stirred, members, place = b.state.brake.stirred, b.members, b.placement.set_member
    for change, known in news:
        member = change.data
        if not isinstance(member, MemberRecord):
            continue
        node = member.node
        if node not in members:
            arrived[node] = None
            b.arc_changed = True
        members[node] = member
        place(member)
        if node == b.me.id:
            membership.on_own_member(b, change)
        if known is None or known.data is None or known.owner != change.owner:
            if stirred:
                brake.on_return(b, node)
            review_if_touched(b, node)
    b.ring.add_members(arrived)


def place_member(b: Brain, record: MemberRecord) -> None:
    """Make a member a candidate for placement, as far as it is fit."""
    b.members[record.node] = record
    b.placement.set_member(record)


def forget_member(b: Brain, node: NodeId) -> None:
    b.members.pop(node, None)
    b.placement.remove_member(node)
    b.ring.set_member(node, False)


def _lease(b: Brain, change: Change) -> None:
    service = change.path[len(LEASES) + 1 :]
    if service not in b.specs:
        return
    lease = change.data
    holder = lease.node if isinstance(lease, LeaseRecord) else NodeId("")
    b.placement.pin(ServiceName(service), holder)
    b.state.nowhere.pop(service, None)


def _term(b: Brain, change: Change) -> None:
    """Index who has fenced instances; take a steward's lift into the version our next write must name."""
    service = change.path[len(TERMS) + 1 :]
    term = change.data
    if not isinstance(term, TermRecord):
        return
    if term.blocked:
        b.state.blocks[service] = change.version
    else:
        b.state.blocks.pop(service, None)
    single = b.state.singletons.get(service)
    if single is not None:
        evidence.on_term(b, single, term, change.version)


def rebuild(b: Brain) -> None:
    """Derive members, placement and ring from the mirror again (after a snapshot)."""
    for path, change in b.state.mirror.items():
        if path.startswith(NODES) and change.data is not None:
            b.ring.add(NodeId(path[len(NODES) + 1 :]), False)
    for change in b.state.mirror.values():
        if isinstance(change.data, MemberRecord):
            b.ring.set_member(change.data.node, True)
            place_member(b, change.data)
        elif isinstance(change.data, MachineRecord):
            on_machine(b, change)
    for path, change in b.state.mirror.items():
        if path.startswith(LEASES):
            _lease(b, change)


_TOGETHER: dict[type, Callable[[Brain, Iterator[News]], None]] = {
    MemberRecord: _members,
    NodeRecord: lambda b, news: on_nodes(b, [change for change, _ in news]),
}
"""Who takes many records of one type at once."""

_NOTHING: tuple[int, Callable[[Brain, Change], None] | None] = (0, None)
_KINDS: dict[str, tuple[int, Callable[[Brain, Change], None] | None]] = {
    "leases": (COPIES | ELECTION | DRAIN, _lease),
    "terms": (COPIES | ELECTION | DRAIN | BLOCKS, _term),
    "nodes": (0, on_node),
    "power": (0, on_power),
    "domains": (0, on_domain),
    "cluster": (ENSEMBLE_PART | DRAIN, None),
    "config": (ENSEMBLE_PART | DRAIN, None),
    "machines": (0, on_machine),
    "upgrade": (ROLLING, None),
}
"""For each kind of record (the second name of its path): which parts look around when one changes, and who takes it."""
