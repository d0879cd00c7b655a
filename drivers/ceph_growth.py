"""What the rack's own storage lacks, and the next single step towards it: pure, from what the cluster says of itself.

Every node decides for itself from the same law, so several may try the same step at once: each step names what is to
be, not what is to be added, and is taken from one look. Nothing is ever made smaller but the list of monitors.
"""

from collections.abc import Iterable

import msgspec

from core.ids import NodeId

SIZES = (5, 3, 1)
"""Numbers of monitors, as of ZooKeeper's voters: an even number survives no more losses than the odd one below it."""
MANAGERS_MAX = 3
"""One works, the others stand by; each costs 140 MB. Source: facts/ceph.md section 1."""
COPIES_MAX = 3
COPIES_WRITTEN = 2
"""A write is taken while so many copies can be made. Where only two nodes have disks it is one: two would stop every
write as soon as one of the two is away."""


class Pool(msgspec.Struct, frozen=True, kw_only=True):
    """A replicated pool. ``whole``: of its ``groups``, those that are active, clean, and have ``size`` copies now."""

    name: str
    size: int
    min_size: int
    groups: int
    whole: int


class Cluster(msgspec.Struct, frozen=True, kw_only=True):
    """What the storage says of itself, and who may have its monitors.

    ``hosts``: nodes that have an OSD up and in; ``leader``: of the monitors' quorum; ``managers``: those that live.
    ``voters``: of ZooKeeper; ``retired``: nodes that were taken out of the rack for good.
    """

    hosts: tuple[NodeId, ...] = ()
    monitors: tuple[NodeId, ...] = ()
    quorum: tuple[NodeId, ...] = ()
    leader: NodeId
    managers: tuple[str, ...] = ()
    pools: tuple[Pool, ...] = ()
    voters: tuple[NodeId, ...] = ()
    retired: tuple[NodeId, ...] = ()


class Here(msgspec.Struct, frozen=True, kw_only=True):
    """One node's own part. ``osd``, ``monitor``, ``manager``: it has one made.

    ``cannot``: why it can keep nothing, "" if it can.

    ``trusted``: its key lets it have a monitor and change pools.
    """

    node: NodeId
    osd: bool = False
    monitor: bool = False
    manager: bool = False
    cannot: str = ""
    trusted: bool = True


class AddOsd(msgspec.Struct, frozen=True, tag=True):
    """This node brings its disk."""


class AddMonitor(msgspec.Struct, frozen=True, tag=True):
    """``node`` gets a monitor."""

    node: NodeId


class RemakeMonitor(msgspec.Struct, frozen=True, tag=True):
    """This node's monitor is made anew: it is on the list, but this node has lost it with its disk."""


class RemoveMonitor(msgspec.Struct, frozen=True, tag=True):
    """The monitor of ``node`` counts no more."""

    node: NodeId


class AddStandby(msgspec.Struct, frozen=True, tag=True):
    """This node gets a manager that stands by."""


class SetSize(msgspec.Struct, frozen=True, tag=True):
    """A pool keeps so many copies from now on."""

    pool: str
    size: int


class SetMinSize(msgspec.Struct, frozen=True, tag=True):
    """A pool takes writes only while so many copies can be made."""

    pool: str
    min_size: int


Shared = AddMonitor | RemoveMonitor | SetSize | SetMinSize
Step = Shared | AddOsd | AddStandby | RemakeMonitor


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """``steps``: what can be done now, none depending on another, the most important first.

    ``waits``: what is not as it will be and why, a sentence each.
    """

    steps: tuple[Step, ...] = ()
    waits: tuple[str, ...] = ()


class Changes(msgspec.Struct, frozen=True, kw_only=True):
    """As ``Decision``, for what all nodes share."""

    steps: tuple[Shared, ...] = ()
    waits: tuple[str, ...] = ()


def decide(here: Here, cluster: Cluster) -> Decision:
    """Choose what one node does next. Its own disk comes first: all else follows from the disks that are there."""
    shared = changes(cluster)
    if here.cannot:
        return Decision(waits=(here.cannot, *shared.waits))
    if here.node in cluster.retired:
        return Decision(waits=(f"{here.node} is retired",))
    steps: list[Step] = [] if here.osd else [AddOsd()]
    if here.trusted:
        lost = here.node in cluster.monitors and here.node not in cluster.quorum and not here.monitor
        steps += [RemakeMonitor()] if lost and here.osd else []
        steps += [step for step in shared.steps if doer(step, cluster) == here.node]
        steps += [AddStandby()] if _wants_manager(here, cluster) else []
    return Decision(steps=tuple(steps), waits=shared.waits)


def changes(cluster: Cluster) -> Changes:
    """Choose the next changes of what all nodes share, whoever carries them out (``doer``): one of the monitors, one of
    each pool.
    """
    steps: list[Shared] = []
    waits: list[str] = []
    removed = _removed(cluster)
    if removed is not None:
        steps.append(RemoveMonitor(removed))
        waits.append(f"the monitor of {removed} is to be removed")
    else:
        added, wait = _monitor(cluster)
        steps += [added] if added is not None else []
        waits += [wait] if wait else []
    for pool in cluster.pools:
        larger, wait = _copies(pool, cluster)
        steps += [larger] if larger is not None else []
        waits += [wait] if wait else []
    return Changes(steps=tuple(steps), waits=tuple(waits))


def can_go(node: NodeId, monitors: Iterable[NodeId], quorum: Iterable[NodeId]) -> bool:
    """Whether the other monitors have a quorum without that of ``node``."""
    others = [one for one in monitors if one != node]
    left = [one for one in quorum if one != node]
    return len(others) > 0 and 2 * len(left) > len(others)


def doer(step: Shared, cluster: Cluster) -> NodeId:
    """Tell who carries out a change: a node its own monitor; the rest the monitors' leader, or who stands in for it."""
    match step:
        case AddMonitor():
            return step.node
        case RemoveMonitor() | SetSize() | SetMinSize():
            present = (cluster.leader, *sorted(cluster.quorum))
            return next((node for node in present if node not in cluster.retired), cluster.leader)


def copies_goal(cluster: Cluster) -> int:
    """How many copies there can be: each on a node of its own."""
    return max(1, min(COPIES_MAX, len(_living(cluster.hosts, cluster))))


def unfinished(cluster: Cluster) -> bool:
    """Whether a pool has not reached its goal: only then is the state of its groups of any interest."""
    goal = copies_goal(cluster)
    return any(pool.size < goal or pool.min_size < _written(pool.size) for pool in cluster.pools)


# -- monitors ----------------------------------------------------------------------------------------------------------


def _living(nodes: Iterable[NodeId], cluster: Cluster) -> list[NodeId]:
    return [node for node in sorted(set(nodes)) if node not in cluster.retired]


def _able(cluster: Cluster) -> list[NodeId]:
    """Nodes that may have a monitor: they vote in ZooKeeper, and their disk has shown that storage runs there."""
    return _living(set(cluster.voters) & set(cluster.hosts), cluster)


def _spare(cluster: Cluster) -> list[NodeId]:
    return [node for node in _able(cluster) if node not in cluster.monitors]


def _removed(cluster: Cluster) -> NodeId | None:
    """A monitor that is to go and may: the others must have a quorum without it.

    Who is retired goes; so does one that is away, whose node ZooKeeper has replaced, where another node can follow.
    """
    for node in sorted(cluster.monitors):
        replaced = node not in cluster.quorum and cluster.voters and node not in cluster.voters and _spare(cluster)
        if (node in cluster.retired or replaced) and can_go(node, cluster.monitors, cluster.quorum):
            return node
    return None


def _monitor(cluster: Cluster) -> tuple[AddMonitor | None, str]:
    """The next monitor, if the number of nodes allows for a larger odd number of them and all that are there agree."""
    there, spare = len(cluster.monitors), _spare(cluster)
    goal = next(size for size in SIZES if size <= max(1, there + len(spare)))
    if there >= goal:
        known = {*cluster.hosts, *cluster.monitors}
        voting = [node for node in _living(cluster.voters, cluster) if node not in known]
        needed = next((size for size in reversed(SIZES) if size > there), there)
        if there + len(spare) + len(voting) >= needed > there:
            many = "1 monitor" if there == 1 else f"{there} monitors"
            return None, f"{many}: waits for the disks of {' '.join(voting)} to have {needed}"
        return None, ""
    away = [node for node in cluster.monitors if node not in cluster.quorum]
    if away:
        return None, f"{there} of {goal} monitors: waits for that of {' '.join(sorted(away))}, which is not heard"
    return AddMonitor(spare[0]), f"{there} of {goal} monitors: {spare[0]} is next"


def _wants_manager(here: Here, cluster: Cluster) -> bool:
    """Whether a node is one of the few with a manager; by rank, so that several do not make theirs at once."""
    ranked = [node for node in sorted(cluster.quorum) if node in cluster.monitors][:MANAGERS_MAX]
    return here.node in ranked and not here.manager and len(cluster.managers) < MANAGERS_MAX


# -- copies ------------------------------------------------------------------------------------------------------------


def _written(size: int) -> int:
    """How many copies of ``size`` a write needs."""
    return COPIES_WRITTEN if size >= COPIES_MAX else 1


def _copies(pool: Pool, cluster: Cluster) -> tuple[SetSize | SetMinSize | None, str]:
    """The next change of a pool. Nothing is changed while any of its groups lacks a copy."""
    goal, nodes = copies_goal(cluster), len(_living(cluster.hosts, cluster))
    larger, stricter = pool.size < goal, pool.min_size < _written(pool.size)
    said = f"pool {pool.name}: {pool.size} {'copy' if pool.size == 1 else 'copies'}"
    if (larger or stricter) and (pool.whole < pool.groups or pool.groups == 0):
        return None, f"{said}: waits until all {pool.groups} groups have them ({pool.whole} have)"
    if stricter:
        return SetMinSize(pool.name, _written(pool.size)), f"{said}: from now on a write needs {_written(pool.size)}"
    if larger:
        return SetSize(pool.name, pool.size + 1), f"{said}: one more is made"
    if pool.size < COPIES_MAX:
        lacking = COPIES_MAX - nodes
        more = "one more node" if lacking == 1 else f"{lacking} more nodes"
        return None, f"{said}: waits for {more} with a disk to have {COPIES_MAX}"
    return None, ""
