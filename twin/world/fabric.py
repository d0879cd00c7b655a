"""The rack's networks: which node's packets reach which, and how late.

Three networks share one class: ``data`` (agents, ZooKeeper, clients), ``storage`` (nodes to disks and monitors) and
``management`` (BMCs). A switch may carry several of them. Whether a node is alive is not the fabric's concern.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import networkx as nx

from core.ids import NodeId

NetworkName = Literal["data", "storage", "management"]
NETWORKS: tuple[NetworkName, ...] = ("data", "storage", "management")
STORAGE = NodeId("storage")
"""The vertex of the storage network that stands for the storage as such; it hangs on every storage switch."""


KEPT_MAX = 64
"""Components are kept for so many different sets of what is down: links flap, switches come back."""


class Network:
    """One network: switches, nodes, links, what is wrong with them. Components and answers are kept until a change."""

    def __init__(self) -> None:
        self.graph = nx.Graph()
        self.names: dict[str, str] = {}
        self._down_switches: dict[str, int] = {}
        self._down_nodes: dict[str, int] = {}
        self._cuts: dict[tuple[frozenset[str], frozenset[str]], int] = {}
        self._component: dict[str, int] | None = None
        self._components: dict[frozenset[str], dict[str, int]] = {}
        self._answers: dict[tuple[str, str], bool] = {}

    def link(self, a: str, b: str) -> None:
        """Join two vertices, which are made if they are new."""
        self.graph.add_edge(a, b)
        self._components.clear()
        self._forget()

    def shift(self, table: Literal["node", "switch"], vertex: str, by: int) -> None:
        """Count one more (1) or one less (-1) reason why a node's link or a switch is down."""
        counts = self._down_nodes if table == "node" else self._down_switches
        vertex = self.names.get(vertex, vertex)
        counts[vertex] = max(0, counts.get(vertex, 0) + by)
        self._forget()

    def cut(self, senders: Iterable[str], receivers: Iterable[str]) -> None:
        """Drop what senders send to receivers."""
        key = self._cut_of(senders, receivers)
        self._cuts[key] = self._cuts.get(key, 0) + 1
        self._answers.clear()

    def mend(self, senders: Iterable[str], receivers: Iterable[str]) -> None:
        """Undo one cut of the same vertices; unknown ones are ignored."""
        key = self._cut_of(senders, receivers)
        count = self._cuts.pop(key, 0)
        if count > 1:
            self._cuts[key] = count - 1
        self._answers.clear()

    def link_up(self, vertex: str) -> bool:
        """Whether a node's link is up."""
        return not self._down_nodes.get(self.names.get(vertex, vertex), 0)

    def rename(self, old: str, new: str) -> None:
        """Call a vertex by another name from now on."""
        self.names[new] = self.names.pop(old, old)
        self._answers.clear()

    def _cut_of(self, senders: Iterable[str], receivers: Iterable[str]) -> tuple[frozenset[str], frozenset[str]]:
        names = self.names
        return frozenset(names.get(one, one) for one in senders), frozenset(names.get(one, one) for one in receivers)

    def reachable(self, source: str, target: str) -> bool:
        """Whether packets of ``source`` arrive at ``target``; a vertex always reaches itself."""
        answer = self._answers.get((source, target))
        if answer is None:
            answer = self._answers[source, target] = self._reaches(source, target)
        return answer

    def _reaches(self, source: str, target: str) -> bool:
        if source == target:
            return True
        source, target = self.names.get(source, source), self.names.get(target, target)
        component = self._component
        if component is None:
            component = self._compute()
        here = component.get(source)
        if here is None or here != component.get(target):
            return False
        return not any(source in senders and target in receivers for senders, receivers in self._cuts)

    def _forget(self) -> None:
        self._component = None
        self._answers.clear()

    def _compute(self) -> dict[str, int]:
        """The number of each vertex's component; what was worked out for the same links and switches down is kept."""
        tables = (self._down_nodes, self._down_switches)
        down = frozenset(vertex for table in tables for vertex, count in table.items() if count)
        found = self._components.get(down)
        if found is None:
            alive = nx.restricted_view(self.graph, down, []) if down else self.graph
            parts = enumerate(nx.connected_components(alive))
            found = {vertex: number for number, vertices in parts for vertex in vertices}
            if len(self._components) >= KEPT_MAX:
                self._components.clear()
            self._components[down] = found
        self._component = found
        return found


class Fabric:
    """All networks of the rack. Nodes hang on one or more switches; switches are joined with ``connect``."""

    def __init__(self, latency_ms: int = 0) -> None:
        self.networks: dict[NetworkName, Network] = {name: Network() for name in NETWORKS}
        self.version = 0
        """Grows with every change; for caches."""
        self.nodes: list[NodeId] = []
        self._latency_ms = latency_ms
        self._delay_ms: dict[str, int] = {}
        self._back_ms: dict[str, int] = {}
        self._listeners: list[Callable[[], None]] = []
        self._data = self.networks["data"]

    # -- building ------------------------------------------------------------------------------------------------------

    def add_switch(self, switch: str, networks: Sequence[NetworkName] = NETWORKS) -> None:
        """Add a switch that carries these networks; the storage hangs on every switch of the storage network."""
        for name in networks:
            self.networks[name].graph.add_node(switch)
            if name == "storage":
                self.networks[name].link(switch, STORAGE)

    def connect(self, switch: str, other: str) -> None:
        """Join two switches in every network that both carry."""
        for network in self.networks.values():
            if switch in network.graph and other in network.graph:
                network.link(switch, other)

    def add_node(self, node: NodeId, switches: Sequence[str]) -> None:
        """Add a node with one link to each switch, in every network that the switch carries."""
        self.nodes.append(node)
        for network in self.networks.values():
            for switch in switches:
                if switch in network.graph:
                    network.link(node, switch)

    def rename(self, old: NodeId, new: NodeId) -> None:
        """Call a node by another name from now on, in every network."""
        self.nodes[self.nodes.index(old)] = new
        for network in self.networks.values():
            if old in network.graph:
                network.rename(old, new)

    # -- questions -----------------------------------------------------------------------------------------------------

    def reachable(self, source: NodeId, target: NodeId) -> bool:
        """Whether packets of one node arrive at another, one way, on the data network."""
        return self._data.reachable(source, target)

    def both_ways(self, a: NodeId, b: NodeId) -> bool:
        """Whether two nodes can talk on the data network."""
        return self._data.reachable(a, b) and self._data.reachable(b, a)

    def latency_ms(self, source: NodeId, target: NodeId) -> int:
        """One-way delay between two nodes, on any network."""
        if not self._delay_ms and not self._back_ms:
            return self._latency_ms if source != target else 0
        extra = self._delay_ms.get(source, 0) + self._back_ms.get(target, 0)
        return self._latency_ms + extra if source != target else 0

    def round_trip_ms(self, a: NodeId, b: NodeId) -> int:
        """The delay from one node to another and back, on any network."""
        if not self._delay_ms and not self._back_ms:
            return 2 * self._latency_ms if a != b else 0
        return self.latency_ms(a, b) + self.latency_ms(b, a)

    def bmc_reachable(self, source: NodeId, bmc_of: NodeId) -> bool:
        """Whether a node can talk to the BMC of another (or its own) through the management network."""
        network = self.networks["management"]
        if source == bmc_of:
            return network.link_up(source)
        return network.reachable(source, bmc_of) and network.reachable(bmc_of, source)

    def storage_reachable(self, node: NodeId) -> bool:
        """Whether a node can talk to the storage as such."""
        return self.storage_path(node, STORAGE)

    def storage_path(self, node: NodeId, other: NodeId) -> bool:
        """Whether two nodes (a client and the node of a disk, say) can talk on the storage network."""
        network = self.networks["storage"]
        return network.reachable(node, other) and network.reachable(other, node)

    # -- what goes wrong -----------------------------------------------------------------------------------------------

    def link_down(self, node: NodeId, network: NetworkName = "data") -> None:
        """Take a node's link of one network down; counted, so that two faults need two ``link_up``."""
        self.networks[network].shift("node", node, 1)
        self._changed()

    def link_up(self, node: NodeId, network: NetworkName = "data") -> None:
        """Undo one ``link_down``."""
        self.networks[network].shift("node", node, -1)
        self._changed()

    def switch_down(self, switch: str) -> None:
        """Take a switch down in every network that it carries; counted."""
        self._shift_switch(switch, 1)

    def switch_up(self, switch: str) -> None:
        """Undo one ``switch_down``."""
        self._shift_switch(switch, -1)

    def cut(self, senders: Iterable[NodeId], receivers: Iterable[NodeId], network: NetworkName = "data") -> None:
        """Drop what senders send to receivers, one way; counted, ``mend`` with the same nodes undoes it."""
        self.networks[network].cut(senders, receivers)
        self._changed()

    def mend(self, senders: Iterable[NodeId], receivers: Iterable[NodeId], network: NetworkName = "data") -> None:
        """Undo one ``cut`` of the same nodes."""
        self.networks[network].mend(senders, receivers)
        self._changed()

    def storage_cut(self, node: NodeId) -> None:
        """Cut a node off from the storage network; counted."""
        self.link_down(node, "storage")

    def storage_mend(self, node: NodeId) -> None:
        """Undo one ``storage_cut``."""
        self.link_up(node, "storage")

    def set_delay(self, node: NodeId, ms: int, back_ms: int | None = None) -> None:
        """Delay everything that a node sends by ``ms``, and what it receives by ``back_ms`` (as much if not given)."""
        for table, value in ((self._delay_ms, ms), (self._back_ms, ms if back_ms is None else back_ms)):
            if value:
                table[node] = value
            else:
                table.pop(node, None)
        self._changed()

    def on_change(self, fn: Callable[[], None]) -> None:
        """Call ``fn`` after every change, in the order of registration."""
        self._listeners.append(fn)

    def _shift_switch(self, switch: str, by: int) -> None:
        for network in self.networks.values():
            if switch in network.graph:
                network.shift("switch", switch, by)
        self._changed()

    def _changed(self) -> None:
        self.version += 1
        for listener in self._listeners:
            listener()
