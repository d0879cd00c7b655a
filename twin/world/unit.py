"""One service on one node, as its supervisor keeps it, and what a supervisor needs to know of the world."""

from collections.abc import Callable
from typing import Literal

import msgspec

from core.ids import NO_NODE, BootId, Epoch, NodeId, OpId, ServiceName, VolumeName
from core.ports import Emit
from core.records import Instance
from core.specs import ServiceSpec
from twin.kernel import Kernel
from twin.truth import Truth
from twin.world.clock import Clock
from twin.world.evidence import Probes
from twin.world.quirks import Quirks

UnitState = Literal["starting", "running", "exited", "stopping"]


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """How long things take, drawn anew at each call, in milliseconds."""

    start_ms: Callable[[ServiceName], int]
    recovery_ms: Callable[[ServiceName], int]
    stop_ms: Callable[[ServiceName], int]
    suspend_ms: Callable[[], int]
    kill_ms: Callable[[], int]


class Unit(msgspec.Struct, kw_only=True):
    """One service on one node. ``memory`` is its register as the process knows it; ``writing`` while a write is out.

    ``attempt`` counts changes of state and ``suspensions`` those of suspension, so that what was scheduled for an
    earlier one is ignored. ``waiting``: the ops to answer when the present start or stop ends. ``armed``: its right to
    serve has not ended; ``lapsed``: it ended while the service was starting.
    """

    spec: ServiceSpec
    epoch: Epoch
    instance: Instance | None
    state: UnitState = "starting"
    attempt: int = 0
    waiting: list[tuple[OpId, Emit]] = []
    suspended: bool = False
    announced: bool = False
    suspensions: int = 0
    armed: bool = False
    lapsed: bool = False
    memory: int = 0
    writing: bool = False

    @property
    def name(self) -> ServiceName:
        return self.spec.name


class Sickness:
    """Services that cannot become healthy, everywhere or on one node; outlives boots."""

    def __init__(self) -> None:
        self._sick: dict[tuple[ServiceName, NodeId], int] = {}

    def add(self, service: ServiceName, node: NodeId = NO_NODE) -> None:
        """Make every later start of ``service`` fail, on ``node`` or (NO_NODE) anywhere; counted."""
        self._sick[(service, node)] = self._sick.get((service, node), 0) + 1

    def remove(self, service: ServiceName, node: NodeId = NO_NODE) -> None:
        """Undo one ``add``."""
        left = self._sick.pop((service, node), 1) - 1
        if left > 0:
            self._sick[(service, node)] = left

    def __contains__(self, where: tuple[ServiceName, NodeId]) -> bool:
        return where in self._sick or (where[0], NO_NODE) in self._sick


class Site(msgspec.Struct, kw_only=True):
    """Where a supervisor lives. ``dirty`` has the volumes that were not unmounted cleanly, shared by all nodes.

    ``on_explicit`` hears that the beats of a service are implicit no more; ``visible`` says whether clients can reach
    this node; ``on_serving`` hears that clients are answered here now, or no longer. ``quirks``: what its services do
    that is rare; outlives boots.
    """

    node: NodeId
    boot_id: BootId
    kernel: Kernel
    clock: Clock
    truth: Truth
    probes: Probes
    pace: Pace
    services: dict[ServiceName, ServiceSpec]
    sick: Sickness
    dirty: dict[VolumeName, bool]
    visible: Callable[[NodeId], bool]
    on_explicit: Callable[[NodeId, ServiceName], None]
    on_serving: Callable[[], None] = lambda: None
    quirks: Quirks = msgspec.field(default_factory=Quirks)
    implicit: bool = False
