"""All that one supervisor does on one boot of one node: services, rights, volumes, heartbeats, the agent (rule 11)."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol

import msgspec

from core import effects as fx
from core.errors import InputError
from core.events import AnyEvent, BeatAnswered
from core.ids import BootId, Epoch, NodeId, OpId, VolumeName
from core.ports import Emit
from drivers import log
from drivers.agents import Agents, Life
from drivers.children import Born, Child, environment, reap_orphans
from drivers.config import Config, load_config
from drivers.disks import Disks
from drivers.door import Door
from drivers.guard import AddressRights, Guard
from drivers.logs import LOOK_MS, rotate
from drivers.loop import Crew, Loop
from drivers.process import Processes
from drivers.roster import Roster
from drivers.server import Server
from drivers.state_file import keep, read_count
from drivers.storage_beats import StorageBeats
from drivers.supervised import SOCKET
from drivers.unit import Unit
from drivers.units import Place, Units
from drivers.volumes import Volumes
from drivers.wire import (
    Alive,
    Attach,
    Detach,
    EndServer,
    FromAgent,
    Hello,
    Leaving,
    Machines,
    Name,
    Order,
    RunServer,
    ServerEnded,
    Told,
    Welcome,
)
from drivers.workload import Workload

FEED_MS = 1_000
ABSENT_MS_MAX = 180_000
"""So long the hardware watchdog is fed on behalf of an agent that is not there: restarts and a hand-over fit in."""
HAND_OVER_MS_MAX = 20_000
DETACH_MS_MAX = 10_000
END_MS_MAX = 60_000
"""An orderly end takes no longer than this, a hand-over before it included."""


class Heartbeats(Protocol):
    """``drivers.peers.Peers``."""

    def start(self) -> None: ...

    def listen(self, nodes: tuple[NodeId, ...], emit: Emit) -> None: ...

    def close(self) -> None: ...


class Feeder(Protocol):
    """``drivers.watchdog.Watchdog``."""

    def feed(self) -> None: ...

    def close(self) -> None: ...


class Parts(msgspec.Struct, kw_only=True):
    """What a supervisor is put together from; each may be left out where a node does not need it.

    ``failures``: the exceptions of ``rights``; ``release``: gives back what it holds. ``systemd``: makes the driver for
    services that are systemd units; None: every service is a child process.
    """

    life: Life
    volumes: Volumes | None = None
    rights: AddressRights | None = None
    failures: tuple[type[Exception], ...] = ()
    release: Callable[[], None] = lambda: None
    peers: Heartbeats | None = None
    watchdog: Feeder | None = None
    systemd: Callable[[Loop], Workload] | None = None
    cgroups: bool = True


class Supervisor:
    """All that runs on one boot of one node, in one loop."""

    def __init__(self, config: Config, loop: Loop, parts: Parts) -> None:
        tables = config.tables
        self._config = config
        self._loop = loop
        self._parts = parts
        self._logs = tables.state_dir / "log"
        for folder in (tables.run_dir, tables.run_dir / "hold", tables.state_dir, self._logs):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        place = Place(
            node=config.node,
            address=config.me.address,
            run_dir=tables.run_dir,
            logs=self._logs,
            config=config.file,
        )
        self._disks = Disks(loop, parts.volumes)
        self._processes = Processes(loop, config.node, tables.run_dir, self._logs, parts.cgroups)
        self._systemd = parts.systemd(loop) if parts.systemd is not None else None
        rights = parts.rights if parts.rights is not None else _NoAddresses()
        self.guard = Guard(loop, rights, self._tell, parts.failures, self._cut)
        self.units = Units(loop, config.catalog, place, self._workload, self._disks, self.guard, self._tell)
        self._beats = StorageBeats(loop, self._disks, self.guard, self._tell)
        self._server = Server(loop, tables.state_dir / "zookeeper-server.json", tables.run_dir / "hold" / "zookeeper")
        self._door = Door(loop, tables.run_dir / SOCKET, self._heard, self._agent_gone)
        self.agents = Agents(loop, parts.life)
        self._crew = Crew(loop, "supervisor", 1)
        self._roster = Roster(config)
        self._met_ms = loop.now()
        self._boot_id = BootId(tables.boot_id_path.read_text(encoding="ascii").strip())
        self._incarnation = read_count(tables.state_dir / "incarnation")
        self._dead: set[int] = set()
        self._ending = False
        self._to_detach: list[tuple[VolumeName, Epoch]] = []

    def begin(self) -> None:
        """Start what runs by itself: heartbeats, the agent, regular looks."""
        if self._parts.peers is not None:
            self._parts.peers.start()
        self.agents.begin()
        self._feed()
        self._tidy()
        log.event("supervisor", pid=os.getpid(), services=self._processes.kind)

    # -- the agent --------------------------------------------------------------------------------------------------

    def _tell(self, event: AnyEvent) -> None:
        fresh = isinstance(event, BeatAnswered) and event.outcome == "ok"
        if not (fresh and self._door.slow):  # to one that does not read, only what it must know
            self._door.say(Told(event=event))

    def _voice(self) -> Emit:
        """Return what answers ops of the agent of this moment."""
        say = self._door.voice()
        return lambda event: say(Told(event=event))

    def _heard(self, said: FromAgent) -> None:
        door = self._door
        match said:
            case Hello():
                self._welcome(said)
            case Order():
                self._obey(said.effect)
            case Attach():
                self._disks.attach(said, door.voice())
            case Name():
                log.event("attached", volume=said.volume, epoch=said.epoch, instance=said.instance.address)
            case Detach():
                self._disks.detach(said, door.voice())
            case RunServer():
                self._server.run(said)
            case EndServer():
                say, op = door.voice(), said.op
                self._server.end(lambda: say(ServerEnded(op=op)))
            case Alive():
                self._met_ms = self._loop.now()
                if self._parts.watchdog is not None:
                    self._parts.watchdog.feed()
            case Machines():
                self._roster.replace(said.records)
            case Leaving():
                self.agents.leaving()

    def _welcome(self, hello: Hello) -> None:
        self._incarnation += 1
        keep(self._config.tables.state_dir / "incarnation", b"%d\n" % self._incarnation)
        log.event("agent", pid=hello.pid, version=hello.version, incarnation=self._incarnation)
        self._met_ms = self._loop.now()
        self._listen(())
        self._renew()
        self._door.say(
            Welcome(
                boot_id=self._boot_id,
                incarnation=self._incarnation,
                running=self.units.running(),
                server=self._server.configured,
            )
        )
        self.units.tell_missed()
        self.agents.said_hello(hello.pid)

    def _renew(self) -> None:
        """Take the catalog as it is now, as the agent that says hello has done; a bad one is refused (it says why).

        What runs goes on as it was started, unless it is another service by now, or none: that is stopped, before the
        agent hears what runs here.
        """
        try:
            catalog = load_config(self._config.file).catalog
        except InputError as error:
            log.event("configuration_refused", file=str(self._config.file), problems=tuple(error.problems))
            return
        if self._parts.rights is None and (new := [spec.name for spec in catalog.specs if spec.address]):
            log.event("no_addresses", services=tuple(new), remedy="restart the supervisor: it had no addresses before")
            catalog = msgspec.structs.replace(
                catalog, services=tuple(service for service in catalog.services if not service.spec.address)
            )
        for unit in self.units.take(catalog):
            log.event("not_in_the_catalog", service=unit.name, epoch=unit.epoch)
            self._stop(unit, partial(self._detach, unit))

    def _detach(self, unit: Unit) -> None:
        if unit.instance is not None:
            volume, epoch = unit.service.spec.volume, unit.epoch
            order = Detach(op=OpId(0), volume=volume, epoch=epoch, instance=None, ms_max=DETACH_MS_MAX)
            self._disks.detach(order, lambda _: None)

    def _agent_gone(self) -> None:
        log.event("agent_gone")
        self._met_ms = self._loop.now()
        self._listen(())
        self.agents.lost()

    def _obey(
        self,
        effect: fx.StartService
        | fx.StopService
        | fx.SuspendService
        | fx.ResumeService
        | fx.AnnounceAddress
        | fx.WithdrawAddress
        | fx.StartBeat
        | fx.StopBeat
        | fx.ArmRight
        | fx.ListenTo,
    ) -> None:
        match effect:
            case fx.StartService():
                self.units.start(effect, self._voice())
            case fx.StopService():
                self.units.stop(effect, self._voice())
            case fx.StartBeat():
                if effect.kind == "storage":
                    self._beats.start(effect)
            case fx.StopBeat():
                if effect.kind == "storage":
                    self._beats.stop(effect.service, effect.epoch)
            case fx.ListenTo():
                self._listen(effect.nodes)
            case fx.SuspendService() | fx.ResumeService() | fx.AnnounceAddress() | fx.WithdrawAddress() | fx.ArmRight():
                self.guard.obey(effect)

    def _listen(self, nodes: tuple[NodeId, ...]) -> None:
        if self._parts.peers is not None:
            emit, post = self._voice(), self._loop.post
            self._parts.peers.listen(nodes, lambda event: post(lambda: emit(event)))

    # -- services ---------------------------------------------------------------------------------------------------

    def _workload(self, unit: str) -> Workload:
        return self._systemd if unit and self._systemd is not None else self._processes

    def _cut(self, address: str) -> None:
        """End connections of an address here, so that clients need not wait; where it cannot be, nothing happens."""
        try:
            Child(
                self._loop,
                Born(argv=("ss", "-K", "-tnH", "src", address), env=environment({}), log=Path("/dev/null")),
                lambda _: None,
            )
        except OSError as error:
            log.event("not_cut", address=address, error=str(error))

    # -- regular looks ----------------------------------------------------------------------------------------------

    def _feed(self) -> None:
        """Feed the watchdog for an agent that is not there, as long as somebody sees to it that it comes back."""
        watchdog = self._parts.watchdog
        if watchdog is None:
            return
        holds = any(unit.epoch for unit in self.units.all.values())
        absent_ms = self._loop.now() - self._met_ms
        if not self._door.occupied and (not holds or absent_ms < ABSENT_MS_MAX):
            watchdog.feed()
        self._loop.after(FEED_MS, self._feed)

    def _tidy(self) -> None:
        self._crew.do(lambda: rotate(self._logs), lambda _: None)
        self._dead = reap_orphans(self._dead)
        self._loop.after(LOOK_MS, self._tidy)

    # -- the end ----------------------------------------------------------------------------------------------------

    def end(self) -> None:
        """Hand everything over, stop every service, then let the loop return. A second call hurries."""
        if self._ending:
            self._loop.stop()
            return
        self._ending = True
        log.event("supervisor_ends")
        self._loop.after(END_MS_MAX, self._loop.stop)
        self.agents.hand_over(HAND_OVER_MS_MAX, self._stop_services)

    def _stop_services(self) -> None:
        units = self.units.in_order()
        self._to_detach = [(unit.service.spec.volume, unit.epoch) for unit in units if unit.instance is not None]
        for unit in units:
            self._stop(unit, self._stop_more)
        if not units:
            self._stop_more()

    def _stop(self, unit: Unit, then: Callable[[], None]) -> None:
        """Stop a service without being asked by an agent."""
        spec = unit.service.spec
        order = fx.StopService(op=OpId(0), service=spec.name, epoch=unit.epoch, kill=False, ms_max=spec.stop_ms_max)
        self.units.stop(order, lambda _: then())

    def _stop_more(self) -> None:
        """Once every service is stopped, close their volumes one by one, then end the ZooKeeper server."""
        if self.units.all:
            return
        if self._to_detach:
            volume, epoch = self._to_detach.pop()
            order = Detach(op=OpId(0), volume=volume, epoch=epoch, instance=None, ms_max=DETACH_MS_MAX)
            self._disks.detach(order, lambda _: self._stop_more())
        else:
            self._server.end(self._loop.stop, forget=False)

    def close(self) -> None:
        """Give everything back that outlives a process: addresses, sockets, volumes."""
        self.agents.close()
        self._door.close()
        if self._parts.peers is not None:
            self._parts.peers.close()
        self._processes.close()
        self._parts.release()
        if self._parts.watchdog is not None:
            self._parts.watchdog.close()


class _NoAddresses:
    """Where no service has an address."""

    def announce(self, address: str) -> None:
        """Nothing to do."""

    def withdraw(self, address: str) -> None:
        """Nothing to do."""

    def allow(self, address: str, until_ms: int) -> None:
        """Nothing to do."""

    def revoke(self, address: str) -> None:
        """Nothing to do."""
