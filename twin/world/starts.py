"""Starting and stopping the services of one node, with mount, recovery and unmount."""

from collections.abc import Callable

from core import effects as fx
from core.events import AnyEvent, Done, OpFailed, OpSucceeded, Reason, Result, ServiceExited, Stopped
from core.ids import OpId, ServiceName
from core.ports import Emit
from twin.world.guard import Guard
from twin.world.processes import Processes
from twin.world.quirks import QuirkName
from twin.world.unit import Site, Unit

DONE = Done()
FLUSH_POLL_MS = 20


class Starts:
    """Takes a service through its states: starting, running, exited, stopping; a stopped one is forgotten."""

    def __init__(
        self,
        site: Site,
        processes: Processes,
        units: dict[ServiceName, Unit],
        guard: Guard,
        tell: Callable[[AnyEvent], None],
    ) -> None:
        self._site = site
        self._processes = processes
        self._units = units
        self._guard = guard
        self._tell = tell

    # -- starting ---------------------------------------------------------------------------------------------------

    def start(self, effect: fx.StartService, emit: Emit) -> None:
        """Mount, recover, start; answered when healthy, at the latest after ``ms_max``."""
        unit = self._units.get(effect.service)
        spec = self._site.services.get(effect.service)
        if spec is None:
            self._failed([(effect.op, emit)], "failed", "no such service in the catalog")
        elif unit is None:
            unit = Unit(spec=spec, epoch=effect.epoch, instance=effect.instance)
            self._units[effect.service] = unit
            self._guard.arm_early(unit)
            self._begin(unit, effect, emit)
        elif unit.epoch != effect.epoch or unit.instance != effect.instance:
            self._failed([(effect.op, emit)], "failed", f"epoch {unit.epoch} is still {unit.state} here")
        elif unit.state == "running":
            self._done([(effect.op, emit)], DONE)
        elif unit.state == "starting":
            unit.waiting.append((effect.op, emit))
        elif unit.state == "exited":
            self._begin(unit, effect, emit)
        else:
            self._failed([(effect.op, emit)], "failed", f"it is still {unit.state} here")

    def _begin(self, unit: Unit, effect: fx.StartService, emit: Emit) -> None:
        unit.state, unit.suspended = "starting", False
        unit.attempt += 1
        unit.suspensions += 1
        unit.waiting = [(effect.op, emit)]
        self._guard.change(unit, "starting")
        attempt, run, ms_max = unit.attempt, self._processes.run, effect.ms_max
        self._processes.after(ms_max, self._start_failed, unit, attempt, "failed", f"not healthy within {ms_max} ms")
        if unit.instance is None:
            self._launch(unit, attempt, 0)
            return
        self._site.probes.mount(
            unit.instance, unit.spec.volume, lambda how: run(self._mounted, unit, attempt, how), ms_max
        )

    def _mounted(self, unit: Unit, attempt: int, how: str) -> None:
        if unit.attempt != attempt:
            return
        if how == "refused":
            self._start_failed(unit, attempt, "refused", "the storage refused the mount")
        elif how != "ok":
            self._start_failed(unit, attempt, "unanswered", "the mount was not answered")
        elif unit.writing:  # what the process wrote before it died must be through before anybody reads
            self._processes.after(FLUSH_POLL_MS, self._mounted, unit, attempt, how)
        else:
            volume, dirty = unit.spec.volume, self._site.dirty
            recovery_ms = self._site.pace.recovery_ms(unit.name) if dirty.get(volume, False) else 0
            recovery_ms += self._late_ms("mount_replay_long")
            dirty[volume] = True
            unit.memory = self._site.probes.last_payload(volume)
            self._launch(unit, attempt, recovery_ms)

    def _launch(self, unit: Unit, attempt: int, recovery_ms: int) -> None:
        if (unit.name, self._site.node) not in self._site.sick:
            delay_ms = recovery_ms + self._site.pace.start_ms(unit.name) + self._late_ms("start_slow")
            self._processes.after(delay_ms, self._healthy, unit, attempt)

    def _healthy(self, unit: Unit, attempt: int) -> None:
        if unit.attempt == attempt:
            unit.attempt += 1
            unit.state = "running"
            self._guard.change(unit, "started")
            if unit.lapsed:
                self._guard.freeze(unit)
            self._guard.refresh(unit)
            self._done(self._taken(unit), DONE)
            quirks = self._site.quirks
            soon = quirks.take("exit_after_healthy") if quirks.armed else None
            if soon is not None:
                self._processes.after(soon.ms, self._falls, unit, unit.attempt)

    def _falls(self, unit: Unit, attempt: int) -> None:
        if unit.attempt == attempt:
            self.fail(unit.name, "it exited right after it had become healthy")

    def _late_ms(self, name: QuirkName) -> int:
        """How much longer something takes this time."""
        quirks = self._site.quirks
        late = quirks.take(name) if quirks.armed else None
        return late.ms if late is not None else 0

    def _start_failed(self, unit: Unit, attempt: int, reason: Reason, detail: str) -> None:
        if unit.attempt == attempt:
            self._exited(unit)
            self._failed(self._taken(unit), reason, detail)
            self._tell_exited(unit, unit.attempt, detail)

    # -- dying ------------------------------------------------------------------------------------------------------

    def fail(self, service: ServiceName, detail: str) -> bool:
        """Let a running service die by itself; whether it ran."""
        unit = self._units.get(service)
        if unit is None or unit.state != "running":
            return False
        self._exited(unit)
        delay_ms = self._site.pace.kill_ms() + self._late_ms("exit_told_late")
        self._processes.after(delay_ms, self._tell_exited, unit, unit.attempt, detail)
        return True

    def _exited(self, unit: Unit) -> None:
        unit.state = "exited"
        unit.attempt += 1
        self._guard.change(unit, "exited")
        self._guard.refresh(unit)

    def _tell_exited(self, unit: Unit, attempt: int, detail: str) -> None:
        if unit.attempt == attempt:
            now = self._site.clock.now()
            self._tell(ServiceExited(at_ms=now, service=unit.name, epoch=unit.epoch, detail=detail))

    def tell_missed(self, unit: Unit) -> None:
        """Tell the agent of a service that is dead already."""
        if unit.state == "exited":
            unit.attempt += 1
            self._tell_exited(unit, unit.attempt, "it died while no agent was there")

    # -- stopping ---------------------------------------------------------------------------------------------------

    def stop(self, effect: fx.StopService, emit: Emit) -> None:
        """Stop and unmount, or kill; the address goes off first. Answered at the latest after ``ms_max``."""
        unit = self._units.get(effect.service)
        if unit is None or unit.epoch != effect.epoch:
            self._done([(effect.op, emit)], Stopped(clean=unit is None))
            return
        if unit.state == "starting":
            self._failed(self._taken(unit), "failed", "stopped while starting")
        died, unit.state = unit.state == "exited", "stopping"
        unit.attempt += 1
        unit.waiting.append((effect.op, emit))
        self._guard.address(unit, up=False)
        self._guard.refresh(unit)
        attempt, pace, after = unit.attempt, self._site.pace, self._processes.after
        if effect.kill:
            after(pace.kill_ms(), self._stopped, unit, attempt, False)
            return
        after(effect.ms_max, self._stopped, unit, attempt, False)
        if not died and self._site.quirks.armed and self._site.quirks.take("stop_hangs"):
            return
        after(pace.kill_ms() if died else pace.stop_ms(unit.name), self._unmount, unit, attempt, effect.ms_max)

    def _unmount(self, unit: Unit, attempt: int, ms_max: int) -> None:
        if unit.attempt != attempt:
            return
        if unit.instance is None:
            self._stopped(unit, attempt, True)
            return
        if self._site.quirks.armed and self._site.quirks.take("unmount_fails"):
            self._stopped(unit, attempt, False)
            return
        run = self._processes.run
        self._site.probes.mount(
            unit.instance, unit.spec.volume, lambda how: run(self._stopped, unit, attempt, how == "ok"), ms_max
        )

    def _stopped(self, unit: Unit, attempt: int, clean: bool) -> None:
        if unit.attempt != attempt:
            return
        unit.attempt += 1
        if clean and unit.spec.volume:
            self._site.dirty[unit.spec.volume] = False
        del self._units[unit.name]
        self._guard.rights.clear(unit.name)
        self._guard.change(unit, "stopped" if clean else "killed")
        self._done(self._taken(unit), Stopped(clean=clean))

    # -- answers ----------------------------------------------------------------------------------------------------

    @staticmethod
    def _taken(unit: Unit) -> list[tuple[OpId, Emit]]:
        waiting, unit.waiting = unit.waiting, []
        return waiting

    def _done(self, waiting: list[tuple[OpId, Emit]], result: Result) -> None:
        for op, emit in waiting:
            emit(OpSucceeded(at_ms=self._site.clock.now(), op=op, result=result))

    def _failed(self, waiting: list[tuple[OpId, Emit]], reason: Reason, detail: str) -> None:
        for op, emit in waiting:
            emit(OpFailed(at_ms=self._site.clock.now(), op=op, reason=reason, detail=detail))
