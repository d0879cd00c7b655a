"""What one step of a machine costs, in racks of 10 to 10,000 members: it must not grow with them.

The machine measured holds the database. Each simulated second one member goes and comes back with a new boot (a rate
that no rack has), while the beats of what it holds are answered, its timers fire and its operations succeed. The
members that go are not its wards, whose share would fall with the size of the rack.
"""

from collections.abc import Iterator
from time import perf_counter

from bench.memory import OWN_BOOT, OWN_SESSION, Memory
from bench.running import ROOT, cpu_s
from bench.table import Row
from core import events as ev
from core.ids import BootId, DomainId, NodeId, RackId, ServiceName, SessionId
from core.journal import Opening
from core.machine import Machine
from core.placement import Placement
from core.records import Lifecycle, MemberRecord, NodeRecord, member_path, node_path
from core.specs import NodeSpec, ServiceSpec, Timing
from formats.catalog import load_catalog

SIZES = (10, 100, 1_000, 10_000)
SECONDS = 1_500
ROUNDS = 3
MEAN_US_MAX = 25.0
FLAT_RATIO = 0.2
PER_RACK = 40
GOERS = 60
TICK_MS = 50
HELD = ServiceName("mariadb")


def rows() -> Iterator[Row]:
    """Measure the mean of a step at each size, the minimum of three rounds, and how flat the means are."""
    best = {members: min(measure(members) for _ in range(ROUNDS)) for members in SIZES}
    for members, (mean, change) in best.items():
        yield Row(what=f"{members:,} members", measured=f"{mean:.1f} us", target="<= 25 us", ok=mean <= MEAN_US_MAX)
        yield Row(what="  of it, a membership change", measured=f"{change:.1f} us")
    means = [mean for mean, _ in best.values()]
    middle = sum(means) / len(means)
    spread = max(abs(mean - middle) / middle for mean in means)
    yield Row(
        what="largest deviation from the mean", measured=f"{spread:.0%}", target="<= 20 %", ok=spread <= FLAT_RATIO
    )


def measure(members: int) -> tuple[float, float]:
    """Drive one machine; CPU microseconds per step, and wall microseconds per change of records, warm-up left out."""
    run = Run(members)
    run.start()
    run.steps = run.changes = 0
    run.changes_s = 0.0
    before_s = cpu_s()
    for second in range(SECONDS):
        run.second(second)
    return (cpu_s() - before_s) / run.steps * 1e6, run.changes_s / run.changes * 1e6


class Run:
    """One machine among ``members``, with everything it asks for answered at once."""

    def __init__(self, members: int) -> None:
        services = load_catalog(ROOT / "catalog" / "minimal.toml").specs
        self.specs = [spec(index) for index in range(members)]
        self.own = favourite(services, self.specs)
        self.others = [node for node in self.specs if node is not self.own]
        opening = Opening(node=self.own, timing=Timing(), services=services, inventory=tuple(self.specs))
        self.machine = Machine(opening)
        self.memory = Memory(self.own.id)
        self.at_ms = 0
        self.steps = self.changes = 0
        self.changes_s = 0.0

    def start(self) -> None:
        """Start the agent in a rack where all others have joined; let it take what it should run."""
        for index, node in enumerate(self.others):
            self._joins(node, index)
        self._step(ev.Started(at_ms=0, boot_id=OWN_BOOT, session=SessionId(0)))
        self._step(ev.StorageSeen(at_ms=0, ok=True))
        for _ in range(400):
            self._tick()
        if not any(service.serving and service.name == HELD for service in self.machine.view().services):
            raise RuntimeError(f"{HELD} does not serve: {self.machine.view().pending}")
        self.others = [node for node in self.others[:GOERS] if not self._looks_after(node)]

    def _looks_after(self, node: NodeSpec) -> bool:
        """Whether the machine becomes the steward of a node that goes."""
        self.memory.put(member_path(node.rack, node.id), None, self.at_ms)
        self._drain()
        its = node.id in self.machine.view().wards
        self._joins(node, 0)
        self._tick()
        return its

    def second(self, number: int) -> None:
        """Let one member go and come back, and a second pass."""
        node = self.others[number * 7 % len(self.others)]
        self.memory.put(member_path(node.rack, node.id), None, self.at_ms)
        for _ in range(10):
            self._tick()
        self._joins(node, len(self.specs) + number)
        for _ in range(10):
            self._tick()

    def _joins(self, node: NodeSpec, boot: int) -> None:
        boot_id = BootId(f"boot-{boot}")
        session = SessionId(OWN_SESSION + 1 + boot)
        record = NodeRecord(
            node=node.id, rack=node.rack, power_domain=node.power_domain, state=Lifecycle.JOINED, boot_id=boot_id
        )
        member = MemberRecord(
            node=node.id,
            session=session,
            boot_id=boot_id,
            rack=node.rack,
            power_domain=node.power_domain,
            weight=node.weight,
            cores=node.cores,
            memory_bytes=node.memory_bytes,
        )
        self.memory.put(node_path(node.id), record, self.at_ms)
        self.memory.put(member_path(node.rack, node.id), member, self.at_ms, session)

    def _tick(self) -> None:
        self._drain()
        self.at_ms += TICK_MS
        for beat in self.memory.answered(self.at_ms):
            self._step(beat)
        self._drain()
        for timer in self.memory.due(self.at_ms):
            self._step(ev.TimerFired(at_ms=self.at_ms, timer=timer))
            self._drain()

    def _drain(self) -> None:
        while self.memory.out:
            self._step(self.memory.out.popleft())

    def _step(self, event: ev.AnyEvent) -> None:
        self.steps += 1
        before = perf_counter()
        effects = self.machine.step(event)
        if isinstance(event, ev.RecordsChanged):
            self.changes += 1
            self.changes_s += perf_counter() - before
        for effect in effects:
            self.memory.take(effect, self.at_ms)


def spec(index: int) -> NodeSpec:
    """Describe the node of that number."""
    rack = index // PER_RACK
    return NodeSpec(
        id=NodeId(f"n{index:05}"), rack=RackId(f"r{rack:03}"), power_domain=DomainId(f"p{rack:03}-{index % 2}")
    )


def favourite(services: tuple[ServiceSpec, ...], nodes: list[NodeSpec]) -> NodeSpec:
    """Find the node that should run the database."""
    placement = Placement()
    for service in services:
        placement.set_service(service)
    for node in nodes:
        placement.set_node(node)
    (chosen,) = placement.assigned(HELD)
    return next(node for node in nodes if node.id == chosen)
