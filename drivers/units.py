"""Starting and stopping the services of this node, with mount and unmount, as their supervisor does it.

A unit goes through its states: starting, running, exited, stopping; a stopped one is forgotten.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec

from core import effects as fx
from core.events import AnyEvent, Done, OpFailed, OpSucceeded, Reason, Result, Running, ServiceExited, Stopped
from core.ids import Epoch, OpId, ServiceName, VolumeName
from core.ports import Emit
from drivers.guard import Guard
from drivers.health import Vigil, Where
from drivers.log import event as log
from drivers.loop import Loop
from drivers.unit import Unit
from drivers.workload import Ended, Launch, Task, Workload
from formats.catalog import Catalog, CatalogService

DONE = Done()
FAILURES_MAX = 3
"""So many failed health checks in a row are an exit."""
DYING_MS = 50
KILL_SHARE = 3, 5
"""A service that has not stopped by itself in this share of a stop's limit is killed; the rest is for the unmount."""


class Mounted(msgspec.Struct, frozen=True, kw_only=True):
    """A volume is mounted at ``path``, or (``problem``) not, for that ``reason``."""

    path: str = ""
    reason: Reason = "failed"
    problem: str = ""


class Disks(Protocol):
    """What a unit needs of its volume; answers come in the loop, at the latest after ``ms_max``."""

    def mount(self, volume: VolumeName, epoch: Epoch, ms_max: int, then: Callable[[Mounted], None]) -> None: ...

    def unmount(self, volume: VolumeName, epoch: Epoch, ms_max: int, then: Callable[[str], None]) -> None: ...

    def discard(self, volume: VolumeName, epoch: Epoch) -> None:
        """Throw away what is not written: nobody uses the mount any more, and it will not be called clean."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where services run: the node's name, address and file, and the folders for holds, run-time files and logs."""

    node: str
    address: str
    run_dir: Path
    logs: Path
    config: Path = Path()


class Units:
    """All services of one boot of this node."""

    def __init__(
        self,
        loop: Loop,
        catalog: Catalog,
        place: Place,
        workload: Callable[[str], Workload],
        disks: Disks,
        guard: Guard,
        tell: Callable[[AnyEvent], None],
    ) -> None:
        """``workload``: the driver for a service, by the name of its systemd unit ("" for a command)."""
        self.all = guard.units
        self._guard = guard
        self._loop = loop
        self._catalog = {service.spec.name: service for service in catalog.services}
        self._place = place
        self._workload = workload
        self._disks = disks
        self._tell = tell
        self._dying: dict[ServiceName, Task] = {}

    def take(self, catalog: Catalog) -> list[Unit]:
        """Use this catalog from the next start on; the units that are to be stopped because they are not in it.

        Also those that are something else there: what is held for them (volume, address, lease) is of the old kind.
        """
        self._catalog = {service.spec.name: service for service in catalog.services}
        return [unit for unit in self.in_order() if unit.state != "stopping" and not self._is_in(unit)]

    def _is_in(self, unit: Unit) -> bool:
        service = self._catalog.get(unit.name)
        return service is not None and _kind(service) == _kind(unit.service)

    def in_order(self) -> list[Unit]:
        """All units, in order of names."""
        return [self.all[name] for name in sorted(self.all)]

    def running(self) -> tuple[Running, ...]:
        """What a new agent is told to have outlived the last one."""
        return tuple(
            Running(service=unit.name, epoch=unit.epoch, instance=unit.instance, announced=unit.announced)
            for unit in self.in_order()
            if unit.state != "stopping"
        )

    def tell_missed(self) -> None:
        """Tell a new agent, after its start, what had died while nobody could be told."""
        for unit in self.in_order():
            if unit.state == "exited":
                self._tell_exited(unit, "it died while no agent was there")

    # -- starting ---------------------------------------------------------------------------------------------------

    def start(self, effect: fx.StartService, emit: Emit) -> None:
        """Mount, start; answered when healthy, at the latest after ``ms_max``."""
        unit, service = self.all.get(effect.service), self._catalog.get(effect.service)
        asked = [(effect.op, emit)]
        if service is None:
            self._failed(asked, "failed", "no such service in the catalog")
        elif unit is not None and (unit.epoch != effect.epoch or unit.instance != effect.instance):
            self._failed(asked, "failed", f"epoch {unit.epoch} is still {unit.state} here")
        elif unit is not None and unit.state == "running":
            self._done(asked, DONE)
        elif unit is not None and unit.state == "starting":
            unit.waiting.append((effect.op, emit))
        elif unit is not None and unit.state == "stopping":
            self._failed(asked, "failed", f"it is still {unit.state} here")
        elif (self._place.run_dir / "hold" / effect.service).exists():
            self._failed(asked, "failed", f"held: remove {self._place.run_dir / 'hold' / effect.service} to let it run")
        elif effect.service in self._dying:
            self._failed(asked, "failed", "an earlier process of it cannot be killed yet")
        else:
            if unit is None:
                unit = Unit(service=service, epoch=effect.epoch, instance=effect.instance)
                self.all[effect.service] = unit
            self._begin(unit, effect, emit)

    def _begin(self, unit: Unit, effect: fx.StartService, emit: Emit) -> None:
        unit.state, unit.suspended, unit.killed, unit.discarded = "starting", False, False, False
        unit.attempt += 1
        unit.failures, unit.problem = 0, ""
        unit.waiting = [(effect.op, emit)]
        self._guard.begun(unit)
        attempt, ms_max = unit.attempt, effect.ms_max
        log("starting", service=unit.name, epoch=unit.epoch)
        self._loop.after(ms_max, lambda: self._too_late(unit, attempt, ms_max))
        if unit.instance is None or unit.mount:
            self._launch(unit, attempt)
            return
        volume = unit.service.spec.volume
        self._disks.mount(volume, unit.epoch, ms_max, lambda how: self._mounted(unit, attempt, how))

    def _mounted(self, unit: Unit, attempt: int, how: Mounted) -> None:
        if not how.problem:
            unit.mount = how.path
        if unit.attempt != attempt:
            return
        if how.problem:
            self._start_failed(unit, how.reason, how.problem)
        else:
            log("mounted", service=unit.name, epoch=unit.epoch)
            self._launch(unit, attempt)

    def _launch(self, unit: Unit, attempt: int) -> None:
        if unit.attempt != attempt:
            return
        if unit.task is not None:  # its predecessor still dies
            self._loop.after(DYING_MS, lambda: self._launch(unit, attempt))
            return
        folder = self._place.run_dir / "services" / unit.name
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            self._start_failed(unit, "failed", f"{folder}: {error.strerror}")
            return
        process = unit.service.process
        launch = Launch(service=unit.name, process=process, places=self._places(unit, folder), cwd=folder)
        unit.task = task = self._workload(process.unit).start(launch, lambda ended: self._ended(unit, task, ended))
        self._watch(unit, launch)

    def _places(self, unit: Unit, folder: Path) -> dict[str, str]:
        return {
            "mount": unit.mount,
            "address": unit.address or self._place.address,
            "node": self._place.node,
            "epoch": str(unit.epoch),
            "service": unit.name,
            "run_dir": str(folder),
            "config": str(self._place.config),
            "python": sys.executable,
        }

    def _too_late(self, unit: Unit, attempt: int, ms_max: int) -> None:
        if unit.attempt == attempt:
            problem = f": {unit.problem}" if unit.problem else ""
            self._start_failed(unit, "failed", f"not healthy within {ms_max} ms{problem}")

    def _start_failed(self, unit: Unit, reason: Reason, detail: str) -> None:
        self._exited(unit)
        self._failed(self._taken(unit), reason, detail)
        self._tell_exited(unit, detail)

    # -- health -----------------------------------------------------------------------------------------------------

    def _watch(self, unit: Unit, launch: Launch) -> None:
        own = self._place.address
        where = Where(
            hosts=("::1", own) if ":" in own else ("127.0.0.1", own),
            command=tuple(launch.fill(part) for part in unit.service.health.command),
            env=launch.env,
            cwd=launch.cwd,
            log=self._place.logs / f"{unit.name}.health.log",
            mark=f"{self._place.run_dir}:{unit.name}",
        )
        unit.vigil = Vigil(self._loop, unit.service.health, where, lambda problem: self._answered(unit, problem))

    def _answered(self, unit: Unit, problem: str) -> None:
        unit.problem = problem
        if unit.state == "starting":
            if not problem:
                self._healthy(unit)
            return
        unit.failures = unit.failures + 1 if problem else 0
        if unit.failures >= FAILURES_MAX:
            self._exited(unit)
            self._tell_exited(unit, f"{FAILURES_MAX} health checks failed: {problem}")

    def _healthy(self, unit: Unit) -> None:
        unit.attempt += 1
        unit.state = "running"
        if unit.vigil is not None:
            unit.vigil.starting = False
        log("running", service=unit.name, epoch=unit.epoch)
        if unit.lapsed:  # its right ended while it started
            self._guard.suspend(unit)
        self._done(self._taken(unit), DONE)

    # -- dying ------------------------------------------------------------------------------------------------------

    def _ended(self, unit: Unit, task: Task, ended: Ended) -> None:
        """Nothing of the service runs any more."""
        log("ended", service=unit.name, epoch=unit.epoch, detail=ended.detail, killed=ended.killed)
        if self._dying.get(unit.name) is task:
            del self._dying[unit.name]
        if unit.task is not task:
            return
        unit.task = None
        unit.killed = unit.killed or ended.killed
        match unit.state:
            case "starting":
                self._start_failed(unit, "failed", f"it ended: {ended.detail}")
            case "running":
                self._exited(unit)
                self._tell_exited(unit, ended.detail)
            case "stopping":
                self._unmount(unit)
            case "exited":
                pass

    def _exited(self, unit: Unit) -> None:
        unit.state = "exited"
        unit.attempt += 1
        self._ask_no_more(unit)
        if unit.task is not None:
            unit.killed = True
            unit.task.kill()

    def _tell_exited(self, unit: Unit, detail: str) -> None:
        log("exited", service=unit.name, epoch=unit.epoch, detail=detail)
        self._tell(ServiceExited(at_ms=self._loop.now(), service=unit.name, epoch=unit.epoch, detail=detail))

    # -- stopping ---------------------------------------------------------------------------------------------------

    def stop(self, effect: fx.StopService, emit: Emit) -> None:
        """Stop and unmount, or kill; the address goes off first. Answered at the latest after ``ms_max``."""
        unit = self.all.get(effect.service)
        if unit is None or unit.epoch != effect.epoch:
            self._done([(effect.op, emit)], Stopped(clean=unit is None))
            return
        if unit.state == "starting":
            self._failed(self._taken(unit), "failed", "stopped while starting")
        unit.state = "stopping"
        unit.attempt += 1
        unit.waiting.append((effect.op, emit))
        self._ask_no_more(unit)
        self._guard.address(unit, up=False)
        attempt = unit.attempt
        log("stopping", service=unit.name, epoch=unit.epoch, kill=effect.kill)
        self._loop.after(effect.ms_max, lambda: self._give_up(unit, attempt))
        if effect.kill:
            self._kill(unit)
        else:
            grace_ms = effect.ms_max * KILL_SHARE[0] // KILL_SHARE[1]
            if unit.lapsed and unit.instance is None:
                grace_ms = min(grace_ms, 1_000)  # no fence protects others from a service that goes on without a right
            self._loop.after(grace_ms, lambda: self._kill_late(unit, attempt))
            if unit.task is not None:
                unit.task.end()
                self._guard.resume(unit)  # the signal comes first: it handles that and does nothing else
        if unit.task is None:
            self._unmount(unit)

    def _kill(self, unit: Unit) -> None:
        unit.killed = True
        if unit.instance is not None:
            unit.discarded = True
            self._disks.discard(unit.service.spec.volume, unit.epoch)
        if unit.task is not None:
            unit.task.kill()

    def _kill_late(self, unit: Unit, attempt: int) -> None:
        if unit.attempt == attempt and unit.task is not None:
            unit.killed = True
            unit.task.kill()

    def _unmount(self, unit: Unit) -> None:
        attempt = unit.attempt
        if unit.discarded or unit.instance is None:
            self._stopped(unit, attempt, not unit.killed)
            return
        volume, ms_max = unit.service.spec.volume, unit.service.spec.stop_ms_max
        clean = not unit.killed
        self._disks.unmount(
            volume, unit.epoch, ms_max, lambda problem: self._stopped(unit, attempt, clean and not problem)
        )

    def _give_up(self, unit: Unit, attempt: int) -> None:
        if unit.attempt == attempt:
            if unit.task is not None:
                unit.task.kill()
                self._dying[unit.name] = unit.task
            self._stopped(unit, attempt, False)

    def _stopped(self, unit: Unit, attempt: int, clean: bool) -> None:
        if unit.attempt != attempt:
            return
        unit.attempt += 1
        del self.all[unit.name]
        self._guard.forget(unit)
        log("stopped", service=unit.name, epoch=unit.epoch, clean=clean)
        self._done(self._taken(unit), Stopped(clean=clean))

    @staticmethod
    def _ask_no_more(unit: Unit) -> None:
        if unit.vigil is not None:
            unit.vigil.drop()
            unit.vigil = None

    # -- answers ----------------------------------------------------------------------------------------------------

    @staticmethod
    def _taken(unit: Unit) -> list[tuple[OpId, Emit]]:
        waiting, unit.waiting = unit.waiting, []
        return waiting

    def _done(self, waiting: list[tuple[OpId, Emit]], result: Result) -> None:
        for op, emit in waiting:
            emit(OpSucceeded(at_ms=self._loop.now(), op=op, result=result))

    def _failed(self, waiting: list[tuple[OpId, Emit]], reason: Reason, detail: str) -> None:
        for op, emit in waiting:
            emit(OpFailed(at_ms=self._loop.now(), op=op, reason=reason, detail=detail))


def _kind(service: CatalogService) -> tuple[str, str, str]:
    """What cannot change while a service runs."""
    spec = service.spec
    return spec.run if spec.run == "singleton" else "copies", spec.volume, spec.address
