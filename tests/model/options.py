"""What one small world is made of."""

import msgspec

from core.ids import DomainId, NodeId, RackId, ServiceName, VolumeName
from core.journal import Opening
from core.specs import NodeSpec, ServiceSpec, Timing

WITH_VOLUME = ServiceSpec(
    name=ServiceName("db"), run="singleton", volume=VolumeName("vol"), address="10.0.0.1", cores=1
)
WITHOUT_VOLUME = ServiceSpec(name=ServiceName("cron"), run="singleton", address="10.0.0.2", cores=1)


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """Nodes, services, timers, and how late things may be.

    ``fence_slack_ms`` and ``write_slack_ms`` bound how long a fence needs to take effect and a write to land;
    everything else under way is settled, in any order, before the clock goes on. ``reduce``: what concerns only one
    node is taken before what several nodes share, and faults strike between shared steps; all orders of shared steps
    and of the local steps of one node remain.
    """

    names: tuple[str, ...]
    specs: tuple[ServiceSpec, ...]
    timing: Timing
    tick_ms: int
    fence_slack_ms: int = 0
    write_slack_ms: int = 0
    payloads: int = 0
    faults: tuple[str, ...] = ()
    fault_targets: tuple[str, ...] = ()
    reduce: bool = True

    @property
    def singletons(self) -> tuple[str, ...]:
        return tuple(spec.name for spec in self.specs if spec.run == "singleton")

    @property
    def volumes(self) -> tuple[str, ...]:
        return tuple(spec.name for spec in self.specs if spec.volume)

    def node_spec(self, index: int) -> NodeSpec:
        return NodeSpec(
            id=NodeId(self.names[index]),
            rack=RackId("r1"),
            power_domain=DomainId(f"p{index % 2 + 1}"),
            cores=8,
            memory_bytes=1 << 20,
        )

    def opening(self, index: int) -> Opening:
        inventory = tuple(self.node_spec(other) for other in range(len(self.names)))
        return Opening(node=self.node_spec(index), timing=self.timing, services=self.specs, inventory=inventory)
