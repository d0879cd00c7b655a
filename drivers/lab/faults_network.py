"""Faults of the network: cables without carrier, rules in the switch that drop packets, packets that come late."""

from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from core.ids import NodeId
from drivers.lab import network
from drivers.lab.fault import LabFault, Strike
from drivers.lab.layout import LabNode
from formats.catalog import Catalog
from formats.hardware import RackFile
from formats.load import PositiveMs
from formats.problems import Problems
from trial.targets import TargetKind

if TYPE_CHECKING:
    from drivers.lab.rack import LabRack

LinkName = Literal["data", "storage", "management"]


class LinkLoss(LabFault, frozen=True, kw_only=True):
    """A node's cables lose their carrier; one network of the data cable alone is dropped in the switch.

    ``networks``: "data" (peers, ZooKeeper, clients), "storage", "management" (its BMC, and it the others').
    """

    networks: tuple[LinkName, ...] = ("data", "storage")

    def apply(self, rack: "LabRack", strike: Strike) -> None:
        for node in strike.nodes:
            _lose(rack, strike, rack.layout.get(node), self.networks)


def _lose(rack: "LabRack", strike: Strike, node: LabNode, networks: tuple[LinkName, ...]) -> None:
    layout = rack.layout
    if "data" in networks and "storage" in networks:
        _carrier(rack, strike, node.id)
    elif "data" in networks:
        rack.drop(strike, network.around(node, "data"))
    elif "storage" in networks:
        rack.drop(strike, network.around(node, "storage"))
    if "management" in networks:
        network.set_carrier(layout, node, up=False, management=True)
        strike.undo(partial(network.set_carrier, layout, node, up=True, management=True))
        rack.drop(strike, network.to_bmcs((n for n in layout.nodes if n.id != node.id), (node,)))


def _carrier(rack: "LabRack", strike: Strike, node: NodeId) -> None:
    network.set_carrier(rack.layout, rack.layout.get(node), up=False)
    strike.undo(partial(network.set_carrier, rack.layout, rack.layout.get(node), up=True))


class LinkFlap(LabFault, frozen=True, kw_only=True):
    """A node's data cable loses its carrier for ``down_ms`` and has it for ``up_ms``, over and over."""

    down_ms: PositiveMs = 1_000
    up_ms: PositiveMs = 1_500

    def apply(self, rack: "LabRack", strike: Strike) -> None:
        for node in strike.nodes:
            strike.undo(partial(network.set_carrier, rack.layout, rack.layout.get(node), up=True))
            self._turn(rack, strike, node, up=False)

    def _turn(self, rack: "LabRack", strike: Strike, node: NodeId, up: bool) -> None:
        if not strike.healed:
            network.set_carrier(rack.layout, rack.layout.get(node), up)
            lasts_ms = self.up_ms if up else self.down_ms
            rack.timeline.after(lasts_ms, partial(self._turn, rack, strike, node, not up))


class LinkDelay(LabFault, frozen=True, kw_only=True):
    """Everything to a node takes ``delay_ms`` longer; needs a kernel with netem."""

    delay_ms: PositiveMs = 200

    def apply(self, rack: "LabRack", strike: Strike) -> None:
        for node in strike.nodes:
            network.set_delay(rack.layout, rack.layout.get(node), self.delay_ms)
            strike.undo(partial(network.set_delay, rack.layout, rack.layout.get(node), 0))


class Partition(LabFault, frozen=True, kw_only=True):
    """The switch drops what the target and the other nodes send each other; the storage stays reachable for both.

    ``direction``: "both", or one way only: "out" (the target is not heard) or "in" (the target does not hear).
    ``network``: "data", "management" (then no BMC of the other side is reached), or "both".
    ``away_from``: cut the target off from these nodes only (a partial partition); the default is all others.
    """

    direction: Literal["both", "out", "in"] = "both"
    away_from: tuple[str, ...] = ()
    network: Literal["data", "management", "both"] = "data"

    def check(self, rack: RackFile, catalog: Catalog, key: str, problems: Problems) -> None:
        names = [str(node) for node in rack.node_ids]
        for index, name in enumerate(self.away_from):
            if name not in names:
                problems.add(f"{key}.away_from[{index}]", name, f"no such node; allowed: one of {', '.join(names)}")

    def apply(self, rack: "LabRack", strike: Strike) -> None:
        nodes = rack.layout.nodes
        inside = [node for node in nodes if node.id in strike.nodes]
        outside = [n for n in nodes if n.id not in strike.nodes and (not self.away_from or n.id in self.away_from)]
        rules: list[str] = []
        ways = [(inside, outside)] if self.direction != "in" else []
        ways += [(outside, inside)] if self.direction != "out" else []
        for senders, receivers in ways:
            if self.network != "management":
                rules += network.between(senders, receivers, "data")
            if self.network != "data":
                rules += network.to_bmcs(senders, receivers)
        rack.drop(strike, rules)

    def text(self, strike: Strike) -> str:
        words = {"both": "", "out": " (not heard)", "in": " (does not hear)"}[self.direction]
        return f"{', '.join(strike.nodes)} | {', '.join(self.away_from) or 'the others'}{words}"


class SwitchLoss(LabFault, frozen=True, kw_only=True):
    """A switch is dead: nodes that are cabled to no other that lives lose their carrier."""

    STRIKES: ClassVar[TargetKind] = "switches"

    def apply(self, rack: "LabRack", strike: Strike) -> None:
        rack.dead_switches.update(strike.switches)
        strike.undo(partial(rack.dead_switches.difference_update, strike.switches))
        for node in rack.layout.nodes:
            if node.switches and rack.dead_switches.issuperset(node.switches):
                _carrier(rack, strike, node.id)


class StorageCut(LabFault, frozen=True, kw_only=True):
    """The switch drops what a node and the storage say to each other; peers, ZooKeeper and clients reach it."""

    def apply(self, rack: "LabRack", strike: Strike) -> None:
        for node in strike.nodes:
            rack.drop(strike, network.around(rack.layout.get(node), "storage"))


class ZookeeperCut(LabFault, frozen=True, kw_only=True):
    """A node reaches its peers and the storage, but no ZooKeeper server, not even its own (a rule on the node)."""

    def apply(self, rack: "LabRack", strike: Strike) -> None:
        for node in strike.nodes:
            network.block_port(rack.layout, node, rack.zookeeper_port, True)
            strike.undo(partial(network.block_port, rack.layout, node, rack.zookeeper_port, False))
