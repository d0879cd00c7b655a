"""What the lab's operator wants of nodes: tried again and again until it is as wanted, without holding anything up."""

from functools import partial

from core.errors import InputError
from core.ids import NodeId
from core.records import NodeRecord, node_path
from drivers.lab.observer import Observer
from drivers.lab.timeline import Timeline
from drivers.operate import Wish, next_step

RETRY_MS = 500
ATTEMPTS_MAX = 600


class Wishes:
    """One wish a node; a newer one replaces the older."""

    def __init__(self, observer: Observer, timeline: Timeline) -> None:
        self._observer = observer
        self._timeline = timeline
        self._latest: dict[NodeId, int] = {}
        self._count = 0

    def drain(self, node: NodeId) -> None:
        """Have a node give its services away and go into maintenance."""
        self._wish(Wish.DRAIN, node)

    def undrain(self, node: NodeId) -> None:
        """Take a draining node, or one in maintenance, back into service."""
        self._wish(Wish.UNDRAIN, node)

    def retire(self, node: NodeId) -> None:
        """Take a node out of the rack for good; a member is drained first."""
        self._wish(Wish.RETIRE, node)

    def unquarantine(self, node: NodeId) -> None:
        """Give a quarantined node another chance."""
        self._wish(Wish.RELEASE, node)

    def _wish(self, wish: Wish, node: NodeId) -> None:
        self._count += 1
        self._latest[node] = self._count
        self._try(wish, node, self._count, 0)

    def _try(self, wish: Wish, node: NodeId, number: int, attempt: int) -> None:
        if self._latest[node] != number or attempt >= ATTEMPTS_MAX or self._step(wish, node):
            return
        self._timeline.after(RETRY_MS, partial(self._try, wish, node, number, attempt + 1))

    def _step(self, wish: Wish, node: NodeId) -> bool:
        """One attempt; whether the wish is fulfilled."""
        try:
            change = self._observer.read(node_path(node))
            if change is None or not isinstance(change.data, NodeRecord):
                return False
            step = next_step(wish, change.data)
            if step.record is not None and not self._observer.put(change.path, step.record, change.version):
                return False
        except InputError:
            return wish is Wish.RELEASE  # nothing leads there from this state: wait, unless there was nothing to lift
        return step.over
