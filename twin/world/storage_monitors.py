"""The storage's monitors: a majority is needed to change the map, hence to fence; open clients need none."""

from collections.abc import Callable

from core.ids import NodeId
from twin.kernel import Handle, Kernel
from twin.streams import Stream
from twin.world.storage_map import StorageNode
from twin.world.storage_times import StorageTimes


class Monitors:
    """The monitors on their nodes. ``ready`` while a majority has a leader; ``on_ready()`` is told when it is again."""

    def __init__(
        self,
        kernel: Kernel,
        stream: Stream,
        times: StorageTimes,
        nodes: list[StorageNode],
        on_ready: Callable[[], None],
    ) -> None:
        self._kernel, self._stream, self._times = kernel, stream, times
        self._nodes = nodes
        self._stopped: dict[NodeId, bool] = {}
        self._leader: StorageNode | None = None
        self._election: Handle | None = None
        self._on_ready = on_ready
        self.ready = False

    def stop(self, node: NodeId, stopped: bool) -> None:
        """Stop or restart the monitor process on ``node``."""
        self._stopped[node] = stopped
        self.update()

    def start_up(self) -> None:
        """Take up the present state with the leader already elected."""
        self.update()
        if self._election is not None:
            self._election.cancel()
            self._elected()

    def update(self) -> None:
        """Take up what changed on the nodes: a lost leader or majority needs an election."""
        live = [node for node in self._nodes if node.running and not self._stopped.get(node.id, False)]
        if 2 * len(live) <= len(self._nodes):
            self._leader, self.ready = None, False
            if self._election is not None:
                self._election.cancel()
                self._election = None
        elif self._leader is None or self._leader not in live:
            self._leader, self.ready = live[0], False
            if self._election is None:
                self._election = self._kernel.after(self._times.election_ms.draw(self._stream), self._elected)

    def _elected(self) -> None:
        self._election = None
        self.ready = True
        self._on_ready()
