"""A node with a supervisor, on a storage and a lease that tests switch on and off."""

from collections.abc import Callable
from typing import TypeVar

from core import effects as fx
from core.events import AnyEvent
from core.ids import BootId, Epoch, NodeId, OpId, ServiceName, SessionId, VolumeName
from core.records import Instance
from core.specs import ServiceSpec
from twin.kernel import Kernel
from twin.truth import Truth
from twin.world.clock import Clock
from twin.world.supervisor import Supervisor
from twin.world.unit import Pace, Sickness, Site

E = TypeVar("E")

DB = ServiceName("db")
CRON = ServiceName("cron")
DNS = ServiceName("dns")
VOLUME = VolumeName("vol")
NODE = NodeId("n1")
EPOCH = Epoch(1)
INSTANCE = Instance(node=NODE, boot_id=BootId("n1-boot1"), epoch=EPOCH, address="10.0.0.1:0/1")
SERVICES = {
    DB: ServiceSpec(name=DB, run="singleton", volume=VOLUME, address="10.0.0.100"),
    CRON: ServiceSpec(name=CRON, run="singleton"),
    DNS: ServiceSpec(name=DNS, run="everywhere"),
}


class SwitchedStorage:
    """Answers writes after ``delay_ms`` with ``outcome``; ``healthy`` is what beats are told."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.outcome = "ok"
        self.delay_ms = 2
        self.asked: list[tuple[int, int]] = []
        self.payload = 0

    def write(
        self, instance: Instance, volume: VolumeName, payload: int, answer: Callable[[str], None], ms_max: int
    ) -> None:
        assert (instance, volume) == (INSTANCE, VOLUME)
        self.asked.append((self._kernel.now, payload))
        outcome = self.outcome
        if outcome == "ok" and payload:
            self.payload = payload
        self._kernel.after(ms_max if outcome == "unanswered" else self.delay_ms, answer, outcome)

    def mount(self, instance: Instance, volume: VolumeName, answer: Callable[[str], None], ms_max: int) -> None:
        self.write(instance, volume, 0, answer, ms_max)

    def probe_healthy(self, instance: Instance, volume: VolumeName) -> bool:
        return self.outcome == "ok"

    def last_payload(self, volume: VolumeName) -> int:
        return self.payload


class SwitchedLease:
    """Answers checks after 2 ms with ``outcome``."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self.outcome = "ok"
        self.asked: list[int] = []

    def check(
        self, session: SessionId, checks: tuple[fx.Check, ...], answer: Callable[[str], None], ms_max: int
    ) -> None:
        self.asked.append(self._kernel.now)
        self._kernel.after(2, answer, self.outcome)

    def beat_healthy(self, session: SessionId, checks: tuple[fx.Check, ...]) -> bool:
        return self.outcome == "ok"


class Node:
    """A supervisor with an agent that only listens."""

    def __init__(self, capacity: bool = False) -> None:
        self.kernel = Kernel()
        self.clock = Clock(self.kernel)
        self.truth = Truth()
        self.storage = SwitchedStorage(self.kernel)
        self.lease = SwitchedLease(self.kernel)
        self.heard: list[tuple[int, AnyEvent]] = []
        self.sick = Sickness()
        self.dirty: dict[VolumeName, bool] = {}
        self.explicit: list[ServiceName] = []
        self.ops = 0
        site = Site(
            node=NODE,
            boot_id=BootId("n1-boot1"),
            kernel=self.kernel,
            clock=self.clock,
            truth=self.truth,
            probes=self.storage,
            pace=Pace(
                start_ms=lambda _: 100,
                recovery_ms=lambda _: 1_000,
                stop_ms=lambda _: 50,
                suspend_ms=lambda: 20,
                kill_ms=lambda: 10,
            ),
            services=SERVICES,
            sick=self.sick,
            dirty=self.dirty,
            visible=lambda _: True,
            on_explicit=lambda _, service: self.explicit.append(service),
            implicit=capacity,
        )
        self.supervisor = Supervisor(site)
        self.supervisor.agent_started(self.emit, self.lease)

    def emit(self, event: AnyEvent) -> None:
        """What the agent hears."""
        self.heard.append((self.kernel.now, event))

    def send(
        self,
        *effects: fx.StartService
        | fx.StopService
        | fx.SuspendService
        | fx.ResumeService
        | fx.AnnounceAddress
        | fx.WithdrawAddress
        | fx.StartBeat
        | fx.StopBeat
        | fx.ArmRight,
    ) -> None:
        """What the agent orders."""
        for effect in effects:
            self.supervisor.submit(effect, self.emit)

    def run(self, ms: int) -> None:
        """Let time pass."""
        self.kernel.run(self.kernel.now + ms)

    def of(self, kind: type[E]) -> list[E]:
        """What the agent heard of one kind."""
        return [event for _, event in self.heard if isinstance(event, kind)]

    def actions(self, service: ServiceName = DB) -> list[str]:
        """What happened to a service."""
        return [change.action for change in self.truth.services if change.service == service]

    def start(self, service: ServiceName = DB, ms_max: int = 5_000) -> fx.StartService:
        """The order to start a service."""
        self.ops += 1
        spec = SERVICES[service]
        epoch = EPOCH if spec.run == "singleton" else Epoch(0)
        instance = INSTANCE if spec.volume else None
        return fx.StartService(op=OpId(self.ops), service=service, epoch=epoch, instance=instance, ms_max=ms_max)

    def stop(self, service: ServiceName = DB, kill: bool = False, ms_max: int = 2_000) -> fx.StopService:
        """The order to stop a service."""
        self.ops += 1
        epoch = EPOCH if SERVICES[service].run == "singleton" else Epoch(0)
        return fx.StopService(op=OpId(self.ops), service=service, epoch=epoch, kill=kill, ms_max=ms_max)

    def probe(self, every_ms: int = 200, fresh_ms: int = 500) -> fx.StartBeat:
        """The order to probe the volume."""
        return fx.StartBeat(
            service=DB,
            epoch=EPOCH,
            kind="storage",
            every_ms=every_ms,
            fresh_ms=fresh_ms,
            volume=VOLUME,
            instance=INSTANCE,
        )

    def check(self, service: ServiceName = CRON, fresh_ms: int = 1_333) -> fx.StartBeat:
        """The order to check a lease."""
        return fx.StartBeat(
            service=service,
            epoch=EPOCH,
            kind="coordination",
            every_ms=250,
            fresh_ms=fresh_ms,
            session=SessionId(7),
            checks=(fx.Check(path="/moxie/leases/x", version=0),),
        )

    def serve(self) -> None:
        """Start the database, probe its volume and bring its address up."""
        self.send(self.start())
        self.run(200)
        self.send(
            fx.ArmRight(service=DB, epoch=EPOCH, until_ms=self.clock.now() + 500),
            fx.AnnounceAddress(service=DB, epoch=EPOCH),
            self.probe(),
        )
        self.run(10)
        assert self.supervisor.serves(DB)
