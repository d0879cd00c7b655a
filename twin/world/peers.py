"""Heartbeats between nodes: who hears whom, computed only when something changes.

Every node's operating system sends heartbeats, agent or not. No beat is an event: when a path or a node fails, the
last beat heard is computed from its phase and only the silence is scheduled.
"""

from collections.abc import Callable

from core.events import PeerHeard, PeerSilent
from core.ids import NodeId
from core.ports import Emit
from twin.calibration import Calibration
from twin.kernel import Handle, Kernel
from twin.streams import Streams
from twin.world.fabric import Fabric


class _Ear:
    """One listener's knowledge of one peer: what it was told last, and what is scheduled next."""

    __slots__ = ("heard", "pending", "reaching")

    def __init__(self) -> None:
        self.heard: bool | None = None
        self.reaching: bool | None = None
        self.pending: Handle | None = None


class Peers:
    """Heartbeat listening for all nodes. ``alive(node)``: its system is up and not frozen, whatever its agent does.

    Call ``node_changed`` whenever ``alive(node)`` may have changed; changes of the fabric are noticed here.
    """

    def __init__(
        self,
        kernel: Kernel,
        streams: Streams,
        calibration: Calibration,
        fabric: Fabric,
        alive: Callable[[NodeId], bool],
        suspect_ms: int,
    ) -> None:
        self._kernel = kernel
        self._stream = streams.get("peers")
        self._interval = calibration["peers.interval_ms"]
        self._jitter = calibration["peers.jitter_ms"]
        self._fabric = fabric
        self.alive = alive
        self._suspect_ms = suspect_ms
        self._ears: dict[NodeId, dict[NodeId, _Ear]] = {}
        self._emits: dict[NodeId, Emit] = {}
        self._listeners: dict[NodeId, dict[NodeId, None]] = {}
        self._deaf: dict[tuple[NodeId, NodeId], int] = {}
        fabric.on_change(self._fabric_changed)

    def listen(self, node: NodeId, nodes: tuple[NodeId, ...], emit: Emit) -> None:
        """Listen on behalf of ``node`` to exactly these nodes; peers listened to already keep their state."""
        ears = self._ears.setdefault(node, {})
        self._emits[node] = emit
        wanted = dict.fromkeys(nodes)
        for peer in [peer for peer in ears if peer not in wanted]:
            self._drop(node, peer)
        for peer in wanted:
            if peer not in ears and peer != node:
                ears[peer] = _Ear()
                self._listeners.setdefault(peer, {})[node] = None
                self._look(node, peer)

    def forget(self, node: NodeId) -> None:
        """Stop listening on behalf of a node: its agent died."""
        for peer in list(self._ears.get(node, {})):
            self._drop(node, peer)
        self._emits.pop(node, None)

    def lose(self, node: NodeId, peer: NodeId, by: int) -> None:
        """Drop the beats of ``peer`` to ``node``, and nothing else (1), or undo that once (-1)."""
        self._deaf[node, peer] = self._deaf.get((node, peer), 0) + by
        if not self._deaf[node, peer]:
            del self._deaf[node, peer]
        if peer in self._ears.get(node, {}):
            self._look(node, peer)

    def node_changed(self, node: NodeId) -> None:
        """Look again at everybody who listens to ``node``. O(its listeners)."""
        for listener in list(self._listeners.get(node, {})):
            self._look(listener, node)

    def _fabric_changed(self) -> None:
        for listener, ears in list(self._ears.items()):
            for peer in list(ears):
                self._look(listener, peer)

    def _drop(self, node: NodeId, peer: NodeId) -> None:
        ear = self._ears[node].pop(peer)
        self._listeners[peer].pop(node, None)
        if ear.pending is not None:
            ear.pending.cancel()

    def _look(self, node: NodeId, peer: NodeId) -> None:
        """Schedule what the listener will notice if the path to it opened or closed."""
        ear = self._ears[node][peer]
        reaching = self.alive(peer) and self._fabric.reachable(peer, node)
        if self._deaf and (node, peer) in self._deaf:
            reaching = False
        if reaching == ear.reaching:
            return
        first = ear.reaching is None
        ear.reaching = reaching
        if ear.pending is not None:
            ear.pending.cancel()
            ear.pending = None
        if reaching == ear.heard:
            return
        interval_ms = self._interval.ms
        if reaching:
            delay_ms = self._stream.integers(0, interval_ms) + self._fabric.latency_ms(peer, node)
        else:
            age_ms = 0 if first else self._stream.integers(0, interval_ms)
            delay_ms = max(0, self._suspect_ms - age_ms) + self._jitter.draw(self._stream)
        ear.pending = self._kernel.after(delay_ms, self._tell, node, peer, ear)

    def _tell(self, node: NodeId, peer: NodeId, ear: _Ear) -> None:
        ear.pending = None
        ear.heard = ear.reaching
        now = self._kernel.now
        self._emits[node](PeerHeard(at_ms=now, node=peer) if ear.heard else PeerSilent(at_ms=now, node=peer))
