"""The agent process of one node: started with the node, restarted after a crash, paused and resumed."""

from collections.abc import Callable
from typing import Protocol

import msgspec

from core import effects as fx
from core.events import AnyEvent, BeatAnswered, Started, StorageSeen
from core.ids import NO_SESSION, ImageId, NodeId, SessionId
from core.journal import Opening
from core.ports import CoordinationPort, ImagePort, NetbootPort, Ports, PowerPort, StoragePort
from trial.marks import NoteMark
from twin.calibration import Sampled
from twin.host import Brain, Host, Surroundings
from twin.kernel import Kernel
from twin.recorder import Recorder
from twin.streams import Stream
from twin.truth import Axis, NodeChange, Truth, Wrong
from twin.world.auditor import Auditor
from twin.world.clock import Clock
from twin.world.evidence import Checks
from twin.world.supervisor import Supervisor


class Client(CoordinationPort, Checks, Protocol):
    """The node's ZooKeeper client."""

    saved_session: SessionId

    def start(self) -> None: ...

    def agent_died(self) -> None: ...

    def freeze(self) -> None: ...

    def thaw(self) -> None: ...


class Mortal(Protocol):
    """A port that lives in the agent process."""

    def agent_died(self) -> None: ...

    def freeze(self) -> None: ...

    def thaw(self) -> None: ...


class MortalStorage(StoragePort, Mortal, Protocol):
    """The storage port."""


class MortalPower(PowerPort, Mortal, Protocol):
    """The power port."""


class BootedImage(ImagePort, Protocol):
    """The image port; ``running``: what the machine booted."""

    @property
    def running(self) -> ImageId: ...


class AgentTimes(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of section ``agent``; times in ms."""

    warm_ms: Sampled
    start_ms: Sampled
    restart_ms: Sampled
    grace_ms: int


class Around(msgspec.Struct, kw_only=True):
    """What the agent of one node is made from and lives in."""

    opening: Opening
    kernel: Kernel
    clock: Clock
    stream: Stream
    times: AgentTimes
    recorder: Recorder | None
    truth: Truth
    make: Callable[[Opening], Brain]
    client: Client
    storage: MortalStorage
    power: MortalPower
    netboot: NetbootPort
    image: BootedImage
    configured: Callable[[NodeId], bool]
    storage_seen: Callable[[NodeId], bool]
    implicit: bool
    check_every: int
    check: Callable[[Brain, int], None]


class AgentSlot:
    """One node's agent, through all its incarnations. ``host`` is the latest process, dead or alive."""

    def __init__(self, around: Around) -> None:
        self.node = around.opening.node.id
        self.host: Host | None = None
        self.supervisor: Supervisor | None = None
        self.steps_before = 0
        self._around = around
        self._incarnation = 0
        self._attempt = 0
        self._restarts = True
        self._stops = 0
        self._storage_ok = True
        self._reachable = False
        self.unlooked = True
        """Whether nobody has looked yet if this boot or this process reaches the storage (``storage_changed``)."""
        self._unchecked = 0

    @property
    def alive(self) -> bool:
        """Whether an agent process runs (or is paused)."""
        return self.host is not None and self.host.alive

    @property
    def steps(self) -> int:
        """Steps of all incarnations so far."""
        return self.steps_before + (self.host.steps if self.host is not None else 0)

    # -- the life of the node ---------------------------------------------------------------------------------------

    def os_up(self, supervisor: Supervisor, delay_ms: int) -> None:
        """The operating system is up: start the agent after ``delay_ms``, or hand over if it cannot start."""
        self.supervisor = supervisor
        self.unlooked = True
        self._stops = 0
        self._around.client.saved_session = NO_SESSION  # the file is in memory, and lost with the boot
        if self._restarts:
            self._start_after(delay_ms, hand_over=False)

    def os_down(self) -> None:
        """The operating system is gone, and the agent with it."""
        self.supervisor = None
        self._attempt += 1
        self._end()

    # -- faults -----------------------------------------------------------------------------------------------------

    def crash(self, restarts: bool = True) -> None:
        """Kill the agent process; its supervisor starts it again, or hands over after a grace if it cannot."""
        self._restarts = restarts
        self._end()
        if self.supervisor is None:
            return
        times = self._around.times
        if restarts:
            self._start_after(times.restart_ms.draw(self._around.stream), hand_over=False)
        else:
            self._start_after(times.grace_ms, hand_over=True)

    def heal(self) -> None:
        """Let the agent start again after ``crash(restarts=False)``."""
        self._restarts = True
        if self.supervisor is not None and not self.alive:
            self._start_after(self._around.times.restart_ms.draw(self._around.stream), hand_over=False)

    def pause(self) -> None:
        """Stop the agent process (SIGSTOP), and its clients with it; counted."""
        self._stops += 1
        if self._stops == 1 and self.host is not None and self.host.alive:
            self._set_stopped(True)

    def resume(self) -> None:
        """Undo one ``pause``."""
        if self._stops:
            self._stops -= 1
            if not self._stops and self.host is not None and self.host.alive:
                self._set_stopped(False)

    # -- processes --------------------------------------------------------------------------------------------------

    def _start_after(self, delay_ms: int, hand_over: bool) -> None:
        self._attempt += 1
        self._around.kernel.after(delay_ms, self._start, self._attempt, hand_over)

    def _start(self, attempt: int, hand_over: bool) -> None:
        around, supervisor = self._around, self.supervisor
        if attempt != self._attempt or supervisor is None or self.alive:
            return
        if self.host is not None:
            self.steps_before += self.host.steps
        self._incarnation += 1
        host = Host(around.opening, self._incarnation, around.make(around.opening), self._surroundings(supervisor))
        self.host = host
        around.client.start()
        running = supervisor.agent_started(host.emit, around.client)
        self._change("up")
        if self._stops:
            host.freeze()
        self._storage_ok = around.storage_seen(self.node)
        self.unlooked = True
        started = Started(
            at_ms=around.clock.now(),
            boot_id=supervisor.site.boot_id,
            session=around.client.saved_session,
            running=running,
            server=around.configured(self.node),
            hand_over=hand_over,
            image=around.image.running,
        )
        host.run(self._ports(host, supervisor), started)
        if self._stops:  # only now: what a stopped process is told first must be that it started
            self._set_stopped(True)
        supervisor.tell_missed()
        host.emit(StorageSeen(at_ms=around.clock.now(), ok=self._storage_ok))

    def _ports(self, host: Host, supervisor: Supervisor) -> Ports:
        around = self._around
        return Ports(
            host=host,
            coordination=around.client,
            evidence=supervisor,
            storage=around.storage,
            workload=supervisor,
            address=supervisor,
            power=around.power,
            netboot=around.netboot,
            image=around.image,
        )

    def _surroundings(self, supervisor: Supervisor) -> Surroundings:
        around = self._around
        return Surroundings(
            kernel=around.kernel,
            clock=around.clock,
            recorder=around.recorder,
            implicit=supervisor.evidence.implicit,
            refreshed=supervisor.refreshed if around.implicit else _nothing,
            on_note=self._note,
            on_exit=self._exited,
            on_step=self._look if around.check_every else None,
            on_done=self._audit() if around.check_every == 1 else None,
        )

    def _end(self) -> None:
        """End the process that runs, if one does; what lived in it dies with it."""
        host = self.host
        if host is None or not host.alive:
            return
        host.crash()
        self._exited()

    def _exited(self) -> None:
        around = self._around
        around.client.agent_died()
        around.storage.agent_died()
        around.power.agent_died()
        self._change("down")
        if self.supervisor is not None:
            self.supervisor.agent_died()
            if self._restarts and self.host is not None and not self.host.alive:
                self._start_after(around.times.restart_ms.draw(around.stream), hand_over=False)

    def _set_stopped(self, stopped: bool) -> None:
        """Stop or continue the process; what has waited in its clients arrives before it goes on."""
        around = self._around
        ports: tuple[Mortal, ...] = (around.client, around.storage, around.power)
        if self.host is None or self.supervisor is None:
            return
        if stopped:
            self.supervisor.agent_paused(True)
            self.host.freeze()
            for port in ports:
                port.freeze()
        else:
            for port in ports:
                port.thaw()
            self.host.thaw()
            self.supervisor.agent_paused(False)
        self._change("paused" if stopped else "up")

    def storage_changed(self) -> None:
        """Tell the agent if the node reaches the storage now and did not, or the reverse."""
        self.unlooked = False
        ok = self._around.storage_seen(self.node)
        if ok != self._reachable:
            self._reachable = ok
            self._change("reachable" if ok else "cut", "storage")
        if self.host is not None and self.host.alive and ok != self._storage_ok:
            self._storage_ok = ok
            self.host.emit(StorageSeen(at_ms=self._around.clock.now(), ok=ok))

    # -- the truth --------------------------------------------------------------------------------------------------

    def _note(self, by: NodeId, note: fx.Note) -> None:
        self._around.truth.notes.append(
            NoteMark(
                at_ms=self._around.kernel.now,
                by=by,
                kind=note.kind,
                service=note.service,
                node=note.node,
                epoch=note.epoch,
                detail=note.detail,
            )
        )

    def _audit(self) -> Callable[[AnyEvent, tuple[fx.AnyEffect, ...]], None]:
        opening = self._around.opening
        return Auditor(self.node, opening.services, opening.timing, self._complain).saw

    def _complain(self, checker: str, text: str) -> None:
        at_ms = self._around.kernel.now
        self._around.truth.wrongs.append(Wrong(at_ms=at_ms, node=self.node, checker=checker, text=text))

    def _change(self, state: str, axis: Axis = "agent") -> None:
        now = self._around.kernel.now
        self._around.truth.nodes.append(NodeChange(at_ms=now, node=self.node, axis=axis, state=state))

    def _look(self, machine: Brain) -> None:
        self._unchecked += 1
        if self._unchecked >= self._around.check_every:
            self._unchecked = 0
            self._around.check(machine, self._around.clock.now())


def _nothing() -> tuple[BeatAnswered, ...]:
    return ()
