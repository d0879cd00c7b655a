"""What symbolic targets mean on the real rack at this moment (``trial.targets.Situation``)."""

from collections.abc import Sequence

from core.hashing import digest
from core.ids import NO_NODE, NodeId, ServiceName
from core.records import lease_path
from drivers.lab import power
from drivers.lab.rack import LabRack


class LabSituation:
    """``seed`` decides what ``one`` means, so that a scenario chooses the same way each time it is run."""

    def __init__(self, rack: LabRack, seed: int) -> None:
        self._rack = rack
        self._seed = seed
        self._draws = 0

    @property
    def nodes(self) -> Sequence[NodeId]:
        return sorted(node.id for node in self._rack.layout.nodes)

    def nodes_of(self, kind: str, name: str) -> Sequence[NodeId]:
        """The nodes of a rack, PDU or switch."""
        nodes = sorted(self._rack.layout.nodes, key=lambda node: node.id)
        match kind:
            case "rack":
                return [node.id for node in nodes if node.rack == name]
            case "pdu":
                return [node.id for node in nodes if node.power_domain == name]
            case _:
                return [node.id for node in nodes if name in node.switches]

    def is_up(self, node: NodeId) -> bool:
        return power.init_of(self._rack.layout, node) != 0

    def holder_of(self, service: str) -> NodeId:
        change = self._rack.observer.read(lease_path(ServiceName(service)))
        return NodeId(getattr(change.data, "node", NO_NODE)) if change is not None else NO_NODE

    def standby_of(self, service: str) -> NodeId:
        """The first member by id that does not hold the service."""
        holder = self.holder_of(service)
        return next((node for node in self._rack.observer.members() if node != holder), NO_NODE)

    def steward_of(self, node: NodeId) -> NodeId:
        return self._rack.steward_of(node)

    def leader(self) -> NodeId:
        return self._rack.leader()

    def voters(self) -> Sequence[NodeId]:
        return self._rack.voters()

    def choose(self, count: int) -> int:
        """An index below ``count``: by the seed and the number of choices before."""
        self._draws += 1
        return digest(f"{self._seed}/{self._draws}") % count
