"""The supervisor of one boot of a node: it runs the services and enforces their rights, and outlives the agent.

It is the node's workload, address and evidence port. A right is a deadline on the node's clock: when it passes, the
address goes off at once (the kernel's doing) and the service is suspended a moment later (rules 5 and 11).
"""

from collections.abc import Callable
from typing import Literal

from core import effects as fx
from core.events import AnyEvent, BeatAnswered, Running
from core.ids import ServiceName
from core.ports import AddressEffect, Emit, EvidenceEffect, WorkloadEffect
from twin.world.evidence import Checks, Evidence, Setting
from twin.world.guard import Guard
from twin.world.processes import Processes
from twin.world.starts import Starts
from twin.world.unit import Site, Unit

WRITE_MS_MAX = 3_600_000
"""A service waits this long for one write before it takes itself for broken; block devices wait for ever."""

Outcome = Literal["ok", "failed", "unknown"]


class Supervisor:
    """All services of one boot of one node."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.units: dict[ServiceName, Unit] = {}
        self.processes = Processes(site.kernel)
        self._agent: Emit | None = None
        self._setting = Setting(
            kernel=site.kernel,
            clock=site.clock,
            processes=self.processes,
            probes=site.probes,
            implicit=site.implicit,
        )
        self.evidence = Evidence(self._setting, self)
        self.guard = Guard(site, self.processes, self.units, self.tell, self.evidence.implicit)
        self._starts = Starts(site, self.processes, self.units, self.guard, self.tell)

    # -- the agent --------------------------------------------------------------------------------------------------

    def agent_started(self, emit: Emit, checks: Checks) -> tuple[Running, ...]:
        """Connect an agent; what outlived the last one is handed back, in order of names."""
        self._agent = emit
        self._setting.checks = checks
        self._setting.agent_paused = False
        return tuple(
            Running(service=unit.name, epoch=unit.epoch, instance=unit.instance, announced=unit.announced)
            for unit in self._in_order()
            if unit.state != "stopping"
        )

    def tell_missed(self) -> None:
        """Tell a new agent, after its start, what had died while nobody could be told."""
        for unit in self._in_order():
            self._starts.tell_missed(unit)

    def agent_died(self) -> None:
        """Forget the agent and stop its coordination beats; services, storage beats and rights go on."""
        self._agent = None
        self.evidence.agent_died()

    def agent_paused(self, paused: bool) -> None:
        """Ask no coordination beats while the agent process is stopped."""
        self._setting.agent_paused = paused
        self.evidence.reevaluate()

    def tell(self, event: AnyEvent) -> None:
        """Send an event to the agent, if one lives."""
        if self._agent is not None:
            self._agent(event)

    def refreshed(self) -> tuple[BeatAnswered, ...]:
        """What implicit beats have to tell before any other event (see ``Evidence.refreshed``)."""
        return self.evidence.refreshed() if self.site.implicit else ()

    # -- the life of the node ---------------------------------------------------------------------------------------

    def freeze(self, kernel_too: bool = True) -> None:
        """Stop every process; with ``kernel_too`` the whole machine, so that not even an address goes off."""
        self.processes.stop()
        self.evidence.reevaluate()
        if kernel_too:
            self.guard.rights.stop()
        self._refresh_all()

    def thaw(self) -> None:
        """Go on: rights that have run out meanwhile act before anything else happens here."""
        self.guard.rights.go_on()
        self.processes.go_on()
        self._refresh_all()

    def die(self) -> None:
        """The operating system is gone, and everything it ran."""
        self.processes.die()
        self.guard.rights.close()
        self.evidence.close()
        for unit in self._in_order():
            self.guard.change(unit, "gone")
            self.guard.refresh(unit)
        self.units.clear()
        self._agent = None

    def visibility_changed(self) -> None:
        """Clients may reach this node now, or may no longer."""
        self._refresh_all()

    def _in_order(self) -> list[Unit]:
        return [self.units[name] for name in sorted(self.units)]

    def _refresh_all(self) -> None:
        for unit in self._in_order():
            self.guard.refresh(unit)

    # -- ports ------------------------------------------------------------------------------------------------------

    def submit(self, effect: WorkloadEffect | AddressEffect | EvidenceEffect, emit: Emit) -> None:
        """Take an effect of the agent. What concerns a service that is not here at exactly this epoch came too late."""
        match effect:
            case fx.StartService():
                self._starts.start(effect, emit)
            case fx.StopService():
                self._starts.stop(effect, emit)
            case fx.StartBeat():
                self.evidence.start(effect)
            case fx.StopBeat():
                self.evidence.stop(effect.service, effect.epoch, effect.kind)
            case fx.SuspendService() | fx.ResumeService() | fx.AnnounceAddress() | fx.WithdrawAddress() | fx.ArmRight():
                unit = self.units.get(effect.service)
                if unit is not None and unit.epoch == effect.epoch:
                    self.guard.obey(unit, effect)
                elif unit is None and isinstance(effect, fx.ArmRight):
                    self.guard.keep_early(effect)

    # -- evidence ---------------------------------------------------------------------------------------------------

    def evidence_ok(self, order: fx.StartBeat, asked_ms: int) -> None:
        """Push an armed right forward."""
        unit = self.units.get(order.service)
        if unit is not None and unit.epoch == order.epoch:
            self.guard.push(unit, asked_ms + order.fresh_ms)

    def evidence_refused(self, order: fx.StartBeat) -> None:
        """The storage said no: off the network and suspended at once. A refused lease is for the agent to judge."""
        unit = self.units.get(order.service)
        if order.kind == "storage" and unit is not None and unit.instance == order.instance:
            self.guard.revoke(unit, "refused")

    def evidence_explicit(self, service: ServiceName, until_ms: int) -> None:
        """From now on the right has an end again."""
        unit = self.units.get(service)
        if unit is not None:
            self.guard.push(unit, until_ms)
        self.guard.rights.release(service)
        self.site.on_explicit(self.site.node, service)

    # -- the service itself -----------------------------------------------------------------------------------------

    def fail(self, service: ServiceName, detail: str = "the process died") -> bool:
        """Let a running service die by itself; whether it ran."""
        return not self.processes.dead and self._starts.fail(service, detail)

    def runs(self, service: ServiceName) -> bool:
        """Whether the service is healthy here."""
        unit = self.units.get(service)
        return unit is not None and unit.state == "running"

    def serves(self, service: ServiceName) -> bool:
        """Whether clients that can reach this node are answered."""
        unit = self.units.get(service)
        return unit is not None and self.guard.acts(unit)

    def read(self, service: ServiceName) -> int | None:
        """Answer a client from the service's own memory; None if the service does not answer."""
        return self.units[service].memory if self.serves(service) else None

    def write(self, service: ServiceName, value: int, answer: Callable[[Outcome], None]) -> None:
        """Write for a client, through the service's instance; one write at a time, others are turned away."""
        unit = self.units.get(service)
        if unit is None or not self.guard.acts(unit) or unit.writing or unit.instance is None:
            answer("failed")
            return
        unit.writing = True
        attempt, run = unit.attempt, self.processes.run
        self.site.probes.write(
            unit.instance,
            unit.spec.volume,
            value,
            lambda how: run(self._written, unit, attempt, value, how, answer),
            WRITE_MS_MAX,
        )

    def _written(self, unit: Unit, attempt: int, value: int, how: str, answer: Callable[[Outcome], None]) -> None:
        unit.writing = False
        if unit.attempt != attempt:
            answer("unknown")
        elif how == "ok":
            unit.memory = value
            answer("ok" if self.guard.acts(unit) else "unknown")
        elif how == "refused":
            answer("failed")
        else:
            answer("unknown")
            self.fail(unit.name, "a write was never answered")
