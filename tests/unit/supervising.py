"""A node's services as the real supervisor keeps them: real processes, stand-ins for storage and kernel."""

from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeVar

from core import effects as fx
from core.events import AnyEvent, OpFailed, OpSucceeded, Stopped
from core.ids import BootId, Epoch, NodeId, OpId, ServiceName, VolumeName
from core.records import Instance
from core.specs import ServiceSpec
from drivers.guard import Guard
from drivers.loop import Loop
from drivers.process import Processes
from drivers.storage_beats import StorageBeats
from drivers.units import Mounted, Place, Units
from formats.catalog import Catalog, CatalogService, Health, Process, ServiceTiming

E = TypeVar("E")

DB, CRON, DNS = ServiceName("db"), ServiceName("cron"), ServiceName("dns")
VOLUME, NODE, EPOCH = VolumeName("vol"), NodeId("n1"), Epoch(1)
INSTANCE = Instance(node=NODE, boot_id=BootId("n1-boot1"), epoch=EPOCH, address="10.0.0.1:0/1")
SLEEP = ("sleep", "600")


class Kernel:
    """Which addresses are up and until when they may be used."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self.up: set[str] = set()
        self.until_ms: dict[str, int] = {}

    def announce(self, address: str) -> None:
        self.up.add(address)

    def withdraw(self, address: str) -> None:
        self.up.discard(address)

    def allow(self, address: str, until_ms: int) -> None:
        self.until_ms[address] = max(until_ms, self.until_ms.get(address, 0))

    def revoke(self, address: str) -> None:
        self.until_ms.pop(address, None)

    def passes(self, address: str) -> bool:
        return address in self.up and self.until_ms.get(address, 0) > self._loop.now()


class Shelf:
    """Volumes as folders; ``outcome`` answers probes, ``problem`` mounts and unmounts."""

    def __init__(self, loop: Loop, folder: Path) -> None:
        self._loop = loop
        self._folder = folder
        self.outcome: Literal["ok", "refused", "unanswered"] = "ok"
        self.problem = ""
        self.discarded: list[VolumeName] = []
        self.asked = 0
        self.answered: Callable[[], None] = lambda: None

    def mount(self, volume: VolumeName, epoch: Epoch, ms_max: int, then: Callable[[Mounted], None]) -> None:
        path = self._folder / volume
        path.mkdir(exist_ok=True)
        self._loop.after(2, lambda: then(Mounted(path=str(path), problem=self.problem)))

    def unmount(self, volume: VolumeName, epoch: Epoch, ms_max: int, then: Callable[[str], None]) -> None:
        self._loop.after(2, lambda: then(self.problem))

    def discard(self, volume: VolumeName, epoch: Epoch) -> None:
        self.discarded.append(volume)

    def probe(self, volume: VolumeName, epoch: Epoch, ms_max: int) -> Literal["ok", "refused", "unanswered"]:
        self.asked += 1
        self.answered()
        return self.outcome


def service(
    name: ServiceName,
    command: tuple[str, ...] = SLEEP,
    health: Health | None = None,
    process: Process | None = None,
    stop_ms_max: int = 2_000,
) -> CatalogService:
    """One of the three services, with a command of the test's own."""
    single = name != DNS
    spec = ServiceSpec(
        name=name,
        run="singleton" if single else "everywhere",
        volume=VOLUME if name == DB else VolumeName(""),
        address="10.0.0.100" if name == DB else "",
        stop_ms_max=stop_ms_max,
    )
    return CatalogService(
        spec=spec,
        twin=ServiceTiming(),
        health=health if health is not None else Health(),
        process=process if process is not None else Process(command=command),
    )


class Node:
    """Services with an agent that only listens. ``close`` it: it kills what it started."""

    def __init__(self, folder: Path, *services: CatalogService, cgroups: bool = True) -> None:
        self.folder = folder
        self.loop = Loop()
        self.kernel = Kernel(self.loop)
        self.shelf = Shelf(self.loop, folder)
        self.heard: list[AnyEvent] = []
        self.ops = 0
        given = {one.spec.name: one for one in services}
        self.services = {name: given.get(name) or service(name) for name in (DB, CRON, DNS)}
        catalog = Catalog(name="test", services=tuple(self.services.values()))
        self.logs = folder / "log"
        self.processes = Processes(self.loop, NODE, folder, self.logs, cgroups)
        self.cut: list[str] = []
        self.guard = Guard(self.loop, self.kernel, self.emit, cut=self.cut.append)
        place = Place(node=NODE, address="127.0.0.1", run_dir=folder, logs=self.logs)
        self.units = Units(self.loop, catalog, place, lambda _: self.processes, self.shelf, self.guard, self.emit)
        self.beats = StorageBeats(self.loop, self.shelf, self.guard, self.emit)

    def emit(self, event: AnyEvent) -> None:
        """What the agent hears."""
        self.heard.append(event)

    def send(self, *effects: fx.AnyEffect) -> None:
        """What the agent orders."""
        for effect in effects:
            match effect:
                case fx.StartService():
                    self.units.start(effect, self.emit)
                case fx.StopService():
                    self.units.stop(effect, self.emit)
                case fx.StartBeat():
                    self.beats.start(effect)
                case fx.StopBeat():
                    self.beats.stop(effect.service, effect.epoch)
                case (
                    fx.SuspendService()
                    | fx.ResumeService()
                    | fx.AnnounceAddress()
                    | fx.WithdrawAddress()
                    | fx.ArmRight()
                ):
                    self.guard.obey(effect)
                case _:
                    raise AssertionError(effect)

    def run(self, ms: int) -> None:
        """Let time pass."""
        until_ms = self.loop.now() + ms
        while (left := until_ms - self.loop.now()) > 0:
            self.loop.turn(left)

    def wait(self, condition: Callable[[], bool], ms_max: int = 30_000) -> None:
        """Let time pass until something is so."""
        until_ms = self.loop.now() + ms_max
        while not condition():
            assert self.loop.now() < until_ms, f"not within {ms_max} ms; heard {self.heard}"
            self.loop.turn(20)

    def settle(self, ms_max: int = 30_000) -> None:
        """Let time pass until every op is answered."""
        self.wait(lambda: len(self.answers()) >= self.ops, ms_max)

    def answers(self) -> list[OpSucceeded | OpFailed]:
        """Every answer so far."""
        return [event for event in self.heard if isinstance(event, OpSucceeded | OpFailed)]

    def of(self, kind: type[E]) -> list[E]:
        """What the agent heard of one kind."""
        return [event for event in self.heard if isinstance(event, kind)]

    def start(self, name: ServiceName = DB, ms_max: int = 5_000, epoch: Epoch = EPOCH) -> fx.StartService:
        """The order to start a service."""
        self.ops += 1
        instance = INSTANCE if name == DB else None
        return fx.StartService(
            op=OpId(self.ops), service=name, epoch=self.epoch(name, epoch), instance=instance, ms_max=ms_max
        )

    def stop(self, name: ServiceName = DB, kill: bool = False, ms_max: int = 5_000) -> fx.StopService:
        """The order to stop a service."""
        self.ops += 1
        return fx.StopService(op=OpId(self.ops), service=name, epoch=self.epoch(name), kill=kill, ms_max=ms_max)

    def arm(self, ms: int, name: ServiceName = DB) -> fx.ArmRight:
        """The order to let a service serve for so long."""
        return fx.ArmRight(service=name, epoch=self.epoch(name), until_ms=self.loop.now() + ms)

    def probe(self, every_ms: int = 50, fresh_ms: int = 300) -> fx.StartBeat:
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

    @staticmethod
    def epoch(name: ServiceName, epoch: Epoch = EPOCH) -> Epoch:
        """Copies that run everywhere have none."""
        return Epoch(0) if name == DNS else epoch

    def pids(self, name: ServiceName) -> list[int]:
        """Every living process that carries the service's mark."""
        mark = f"MOXIE_UNIT={self.folder}:{name}".encode()
        return [pid for pid in _processes() if mark in _environment(pid)]

    def states(self, name: ServiceName) -> set[str]:
        """The kernel's states of those processes, and "frozen" where their cgroup is."""
        return {_state(pid) for pid in self.pids(name)}

    def serves(self) -> bool:
        """Whether clients of the database are answered."""
        unit = self.units.all.get(DB)
        return unit is not None and unit.state == "running" and not unit.suspended and self.kernel.passes(unit.address)

    def close(self) -> None:
        """Kill every service, whatever its volume says."""
        self.shelf.problem = ""
        for name in list(self.units.all):
            self.send(self.stop(name, kill=True))
        self.wait(lambda: not self.units.all)
        self.processes.close()
        self.loop.close()


def _processes() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _environment(pid: int) -> list[bytes]:
    try:
        if _state(pid) == "Z":
            return []
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
    except OSError:
        return ""


def serve(node: Node, right_ms: int = 60_000) -> None:
    """Start the database and let clients in."""
    node.send(node.start())
    node.settle()
    node.send(node.arm(right_ms), fx.AnnounceAddress(service=DB, epoch=EPOCH))
    assert node.serves()


def stopped(node: Node) -> list[bool]:
    """How each stop so far ended."""
    return [a.result.clean for a in node.of(OpSucceeded) if isinstance(a.result, Stopped)]
