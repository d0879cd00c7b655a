"""What one small world is made of."""

from typing import Literal

import msgspec

from core.ids import DomainId, NodeId, RackId
from core.journal import Opening
from core.specs import NodeSpec, ServiceSpec, Timing

Order = Literal["reduced", "prompt", "every"]
"""Which orders are explored.

``every``: all. ``prompt``: a node takes what reached it before anything shared happens, and faults strike between
shared steps. That bounds the schedules: a slower node is covered as far as a frozen one is (delay-bounded scheduling,
Emmi, Qadeer, Rakamaric 2011). ``reduced``: as ``prompt``, less orders that cannot matter (``twin.check.enabled``).
"""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """Nodes, services, timers, and how late things may be.

    ``fence_slack_ms`` and ``write_slack_ms`` bound how long a fence needs to take effect and a write to land;
    everything else under way is settled, in any order, before the clock goes on.
    """

    names: tuple[str, ...]
    specs: tuple[ServiceSpec, ...]
    timing: Timing
    tick_ms: int
    fence_slack_ms: int = 0
    write_slack_ms: int = 0
    payloads: int = 0
    fault_targets: tuple[str, ...] = ()
    order: Order = "reduced"

    @property
    def singletons(self) -> tuple[str, ...]:
        return tuple(spec.name for spec in self.specs if spec.run == "singleton")

    @property
    def volumes(self) -> tuple[str, ...]:
        return tuple(spec.name for spec in self.specs if spec.volume)

    def node_spec(self, index: int) -> NodeSpec:
        """Return what a node is like; they take turns on two power domains."""
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
