"""Placement groups and storage daemons: which parts of the storage can take a write, and how that follows failures.

A group keeps ``size`` copies on daemons of different nodes. It takes operations while every copy that the map calls up
answers, and at least ``min_size`` copies are up and complete. A daemon that dies loudly (its port refuses) is marked
down at once; a silent one stalls its groups until its peers give it up. Source: facts/ceph.md section 5.
"""

from collections.abc import Callable, Iterable
from functools import lru_cache
from itertools import islice

import numpy as np

from core.ids import NodeId
from twin.kernel import Handle, Kernel
from twin.streams import Stream
from twin.world.quirks import Quirks
from twin.world.storage_times import StorageTimes

_MIX_A, _MIX_B, _GOLDEN = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB), 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


class Osd:
    """One storage daemon. ``serving``: it answers; ``up``: the map says so; ``empty``: its copies are not filled."""

    __slots__ = ("broken", "disk", "empty", "groups", "node", "process", "refill", "serving", "slow_ms", "up")

    def __init__(self, node: "StorageNode", disk: int) -> None:
        self.node = node
        self.disk = disk
        self.process = True
        self.broken = False
        self.serving = False
        self.up = False
        self.empty = False
        self.slow_ms = 0
        self.groups: list[Group] = []
        self.refill: Handle | None = None


class StorageNode:
    """One node's part. ``path``: it reaches the storage; a bad link adds ``delay_ms`` there and ``back_ms`` back."""

    __slots__ = ("alive", "back_ms", "delay_ms", "flap", "frozen", "id", "marking", "osds", "path", "quirks")

    def __init__(self, node: NodeId, disks: int) -> None:
        self.id = node
        self.alive = False
        self.frozen = False
        self.path = True
        self.delay_ms = 0
        self.back_ms = 0
        self.quirks = Quirks()
        self.osds = [Osd(self, disk) for disk in range(disks)]
        self.marking: Handle | None = None
        self.flap: Handle | None = None

    @property
    def running(self) -> bool:
        """Whether its processes run and reach the storage network."""
        return self.alive and not self.frozen and self.path


class Group:
    """One placement group; ``order`` ranks all storage nodes for it, ``slow_ms`` is its own slowness."""

    __slots__ = ("active", "copies", "index", "order", "slow_ms")

    def __init__(self, index: int, order: tuple[int, ...]) -> None:
        self.index = index
        self.order = order
        self.copies: list[Osd] = []
        self.active = False
        self.slow_ms = 0


class StorageMap:
    """All daemons and groups.

    ``on_active(group)`` and ``on_inactive(group)`` are told when a group takes operations again or no longer,
    ``changed()`` that anything may be different.
    """

    def __init__(
        self, kernel: Kernel, stream: Stream, times: StorageTimes, disks: dict[NodeId, int], quorum: Callable[[], bool]
    ) -> None:
        self._kernel, self._stream, self._times, self._quorum = kernel, stream, times, quorum
        self.nodes = {node: StorageNode(node, count) for node, count in disks.items()}
        self._carriers = [node for node in self.nodes.values() if node.osds]
        self.groups = [Group(index, order) for index, order in enumerate(_orders(len(self._carriers), times.groups))]
        self.inactive = len(self.groups)
        self.slow_ms_max = 0
        self.on_active: Callable[[Group], None] = lambda _: None
        self.on_inactive: Callable[[Group], None] = lambda _: None
        self.changed: Callable[[], None] = lambda: None
        self._size = min(times.size, len(self._carriers))
        self._min_size = min(times.min_size, self._size)
        self._unmarked: list[StorageNode] = []
        self._stuck: list[Osd] = []
        self._placed: set[NodeId] = set()
        self._place({node.id for node in self._carriers})

    def client(self, node: NodeId) -> StorageNode:
        """A node's part; one that is new here carries no disks."""
        return self.nodes.setdefault(node, StorageNode(node, 0))

    # -- what happens to nodes and daemons -------------------------------------------------------------------------

    def start_up(self, nodes: Iterable[NodeId]) -> None:
        """Let everything on these nodes run and be up at once; they hold the copies, if they are enough."""
        started = [self.nodes[name] for name in nodes]
        carriers = {node.id for node in started if node.osds}
        if len(carriers) >= self._size and carriers != self._placed:
            self._place(carriers)
        for node in started:
            node.alive, node.frozen = True, False
            for osd in node.osds:
                osd.serving = osd.up = node.running and osd.process and not osd.broken
        self._judge(self.groups)

    def update(self, node: StorageNode, *, loud: bool) -> None:
        """Take up a change of the node, its processes or disks. ``loud``: what is lost refuses, it is not silent."""
        touched: dict[int, Group] = {}
        for osd in node.osds:
            serving = node.running and osd.process and not osd.broken
            if serving != osd.serving:
                osd.serving = serving
                if not osd.groups:
                    osd.up = serving
                touched.update((group.index, group) for group in osd.groups)
        if touched:
            self._remark(node, loud)
            self._judge(touched.values())

    def set_slow(self, node: StorageNode, slow_ms: int) -> None:
        """Make every operation on this node's disks take ``slow_ms`` longer."""
        for osd in node.osds:
            osd.slow_ms = slow_ms
        self._slowness_changed()

    def set_group_slow(self, group: Group, slow_ms: int) -> None:
        """Make every operation on this group take ``slow_ms`` longer."""
        group.slow_ms = slow_ms
        self._slowness_changed()

    def slow_ms(self, group: Group) -> int:
        """How much longer an operation on this group takes: as long as its slowest copy."""
        if not self.slow_ms_max:
            return 0
        return group.slow_ms + max((osd.slow_ms for osd in group.copies if osd.up), default=0)

    def declared_dead(self, node: StorageNode) -> None:
        """Mark a node's daemons down because its BMC reported it off; daemons that live nevertheless come up again."""
        lied = any(osd.serving and osd.up for osd in node.osds)
        if lied and self._quorum():
            for osd in node.osds:
                osd.up = False
            self._remark(node, loud=True)
            self._judge([group for osd in node.osds for group in osd.groups])
        elif any(osd.up and not osd.serving for osd in node.osds):
            self._remark(node, loud=True)

    def quorum_back(self) -> None:
        """Mark what could not be marked without a quorum of monitors."""
        waiting, self._unmarked = self._unmarked, []
        for node in waiting:
            self._mark(node)

    def _slowness_changed(self) -> None:
        slowest_ms = [max((osd.slow_ms for osd in group.copies), default=0) + group.slow_ms for group in self.groups]
        self.slow_ms_max = max(slowest_ms, default=0)
        self.changed()

    # -- marking up and down ---------------------------------------------------------------------------------------

    def _remark(self, node: StorageNode, loud: bool) -> None:
        if node.marking is not None:
            node.marking.cancel()
            node.marking = None
        if any(osd.up and not osd.serving for osd in node.osds):
            times = self._times.down_loud_ms if loud else self._times.down_silent_ms
        elif any(osd.serving and not osd.up for osd in node.osds):
            times = self._times.osd_start_ms
        else:
            return
        node.marking = self._kernel.after(times.draw(self._stream), self._mark, node)

    def _mark(self, node: StorageNode) -> None:
        node.marking = None
        if not self._quorum():
            self._unmarked.append(node)
            return
        touched: dict[int, Group] = {}
        for osd in node.osds:
            if osd.up != osd.serving:
                osd.up = osd.serving
                touched.update((group.index, group) for group in osd.groups)
                self._plan_refill(osd)
        self._judge(touched.values())
        if any(osd.serving for osd in node.osds):
            self._retry_refills()

    def _judge(self, groups: Iterable[Group]) -> None:
        woken = []
        for group in groups:
            complete, stalled = 0, False
            for osd in group.copies:
                if osd.up:
                    if not osd.serving:
                        stalled = True
                    elif not osd.empty:
                        complete += 1
            active = complete >= self._min_size > 0 and not stalled
            if active != group.active:
                group.active = active
                self.inactive += -1 if active else 1
                if active:
                    woken.append(group)
                else:
                    self.on_inactive(group)
        for group in woken:
            self.on_active(group)
        self.changed()

    # -- new copies ------------------------------------------------------------------------------------------------

    def _place(self, among: set[NodeId]) -> None:
        self._placed = among
        for group in self.groups:
            for osd in group.copies:
                osd.groups.remove(group)
            group.copies.clear()
            ranked = (self._carriers[position] for position in group.order)
            for node in islice((node for node in ranked if node.id in among), self._size):
                self._give(group, node)

    def _plan_refill(self, osd: Osd) -> None:
        if osd.refill is not None:
            osd.refill.cancel()
            osd.refill = None
        if not osd.groups or (osd.up and not osd.empty):
            return
        wait = self._times.recovery_ms.draw(self._stream) + (0 if osd.up else self._times.out_ms)
        osd.refill = self._kernel.after(wait, self._refill, osd)

    def _refill(self, osd: Osd) -> None:
        osd.refill = None
        touched = [group for group in osd.groups if any(o.up and o.serving and not o.empty for o in group.copies)]
        if osd.up:
            osd.empty = len(touched) < len(osd.groups)
        else:
            for group in touched:
                self._rehome(group, osd)
        if osd.groups and (osd.empty or not osd.up):
            self._stuck.append(osd)
        self._judge(touched)

    def _retry_refills(self) -> None:
        stuck, self._stuck = self._stuck, []
        for osd in stuck:
            if osd.refill is None:
                self._plan_refill(osd)

    def _rehome(self, group: Group, lost: Osd) -> None:
        taken = {osd.node.id for osd in group.copies}
        for position in group.order:
            node = self._carriers[position]
            if node.id not in taken and any(osd.up and osd.serving and not osd.empty for osd in node.osds):
                group.copies.remove(lost)
                lost.groups.remove(group)
                self._give(group, node)
                return

    def _give(self, group: Group, node: StorageNode) -> None:
        usable = [osd for osd in node.osds if osd.up and osd.serving and not osd.empty] or node.osds
        osd = usable[group.index % len(usable)]
        group.copies.append(osd)
        osd.groups.append(group)


@lru_cache(maxsize=16)
def _orders(carriers: int, groups: int) -> tuple[tuple[int, ...], ...]:
    """Rank the carriers for each group by a hash of both: rendezvous, as straw2 with equal weights."""
    base = np.arange(1, carriers + 1, dtype=np.uint64) * np.uint64(_GOLDEN)
    orders = []
    for group in range(groups):
        mixed = base + np.uint64((group + 1) * 0xD1B54A32D192ED03 & _MASK)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * _MIX_A
        mixed = (mixed ^ (mixed >> np.uint64(27))) * _MIX_B
        orders.append(tuple(np.argsort(mixed ^ (mixed >> np.uint64(31)), kind="stable").tolist()))
    return tuple(orders)
