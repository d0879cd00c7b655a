"""Runs a scenario: fault phase, heal phase, convergence; then checks, measures, expectations and the verdict."""

import gc
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec

from core.errors import InputError, InvariantViolation
from core.ids import ServiceName
from core.journal import Opening
from core.notes import NOTES
from trial.expect import compare
from trial.measures import failovers, figures, unavailable_ms
from trial.scenario import Fidelity
from trial.verdict import Check, Crash, Expectation, Outcome, judge
from twin import checkers
from twin.calibration import Calibration, load_over
from twin.converge import has_converged, waiting
from twin.failures.outages import Outages
from twin.failures.replay import outages_for
from twin.host import Brain
from twin.inject import Injector
from twin.recorder import Recorder
from twin.scenario import Scenario
from twin.story import Story
from twin.telling import tell
from twin.truth import Truth
from twin.world.clients import ClientLoad
from twin.world.world import World

SLICE_MS = 1_000
"""The heal phase looks for convergence this often; it has to hold at two looks in a row."""
EVENTS_FREE, EVENTS_PER_S_MAX = 700_000, 20
"""A campaign with more events than this, and so many for each node and second, does not end by itself (seen: 1; a fault
that watches for the moment of an order looks every millisecond)."""
PARTS = 200
"""The fault phase reports its progress this often."""

RARELY = (200_000, 50, 100)
"""Hardly anything of many nodes becomes garbage in cycles: looking for it at the usual pace is a sixth of all work."""

Progress = Callable[[int, int], None]
Make = Callable[[Opening], Brain]


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line may change about a scenario; None leaves it as the file says."""

    seed: int | None = None
    fidelity: Fidelity | None = None
    trace: Path | None = None
    calibration: Calibration | None = None


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of a run, what really happened in it, and how to tell its story."""

    outcome: Outcome
    truth: Truth
    tell: Callable[[], Story]

    @property
    def story(self) -> Story:
        """The story of the run, told anew each time: of most campaigns nobody asks for it."""
        return self.tell()


def run(
    scenario: Scenario,
    options: Options,
    sink: Callable[[bytes], object] | None = None,
    progress: Progress | None = None,
    make: Make | None = None,
) -> Result:
    """Run a scenario to its end; ``sink`` gets the journal in chunks, ``progress`` the time reached and the last time.

    ``make`` builds the machines, if other ones than the core's are to be tried.

    ``wall_ms`` of the outcome is 0: who called knows the time.

    Raises: InputError if the trace cannot be read or does not fit the rack; OSError if ``sink`` raises it.
    """
    if (options.fidelity or scenario.fidelity) != "capacity":
        return _Run(scenario, options, sink, progress, make).result()
    before = gc.get_threshold()
    gc.set_threshold(*RARELY)
    try:
        return _Run(scenario, options, sink, progress, make).result()
    finally:
        gc.set_threshold(*before)


def calibration_of(scenario: Scenario) -> Calibration | None:
    """The timings that a scenario asks for, if it asks for any. Raises: InputError with every problem of the file."""
    return load_over(scenario.calibration) if scenario.calibration is not None else None


class _Run:
    def __init__(
        self,
        scenario: Scenario,
        options: Options,
        sink: Callable[[bytes], object] | None,
        progress: Progress | None,
        make: Make | None,
    ) -> None:
        self.scenario = scenario
        self.seed = scenario.seed if options.seed is None else options.seed
        self.fidelity: Fidelity = options.fidelity or scenario.fidelity
        self.progress = progress or (lambda _now, _end: None)
        self.parts = PARTS if progress is not None else 1
        self.recorder = Recorder(sink=sink)
        self.world = World(
            scenario.rack,
            scenario.catalog,
            seed=self.seed,
            fidelity=self.fidelity,
            start=scenario.start,
            timing=scenario.timing,
            clients=ClientLoad(every_ms=scenario.clients.every_ms),
            journal=self.recorder,
            calibration=options.calibration or calibration_of(scenario),
            make=make,
            boots=scenario.boots,
        )
        self.injector = Injector(self.world, scenario.faults)
        self.outages = self._outages(options.trace)
        self.pending: tuple[str, ...] = ()
        self.settled: tuple[str, ...] | None = None
        self.converged_ms = -1
        self.crash: Crash | None = None
        self.broken = ""

    def _outages(self, trace: Path | None) -> Outages:
        """Recorded or generated outages, if the scenario replays any."""
        table, world = self.scenario.trace, self.world
        if table is None:
            return Outages(world, ())
        return Outages(world, outages_for(table, trace, world.nodes, world.streams, self.scenario.duration_ms))

    def result(self) -> Result:
        self._attempt()
        world, scenario = self.world, self.scenario
        world.truth.ends(world.kernel.now)
        singletons = [spec.name for spec in world.services.values() if spec.run == "singleton"]
        outcome = self._outcome(singletons)
        heal_ms = scenario.duration_ms if world.kernel.now > scenario.duration_ms else 0
        story = partial(tell, world.truth, world.nodes, singletons, heal_ms, scenario.name, scenario.why)
        return Result(outcome=outcome, truth=world.truth, tell=story)

    def _attempt(self) -> None:
        """Run both phases; an error in the core or the world is a verdict, so that a report can still be written."""
        try:
            self._fault_phase()
            self._heal_phase()
        except (InputError, OSError):
            raise  # the caller's file or sink, nothing of the run
        except InvariantViolation as violation:
            self.broken = f"at {self.world.kernel.now} ms: {violation}"
        except Exception as error:  # noqa: BLE001 - any other error is the verdict "crash", told with its traceback
            what = f"{type(error).__name__}: {error}"
            self.crash = Crash(at_ms=self.world.kernel.now, what=what, traceback=traceback.format_exc())

    def _fault_phase(self) -> None:
        scenario, world = self.scenario, self.world
        end_ms = scenario.duration_ms + scenario.heal_ms
        self.injector.arm()
        self.outages.arm()
        if self.fidelity == "campaign":
            world.kernel.events_max = EVENTS_FREE + EVENTS_PER_S_MAX * len(world.nodes) * end_ms // 1_000
        world.start()
        first_fault_ms = min([planned.fault.at_ms for planned in scenario.faults], default=scenario.duration_ms)
        if 0 < scenario.settle_ms < first_fault_ms:
            world.run_until(scenario.settle_ms)
            self.settled = waiting(world)
        step_ms = max(SLICE_MS, scenario.duration_ms // self.parts)
        for at_ms in range(world.kernel.now + step_ms, scenario.duration_ms, step_ms):
            world.run_until(at_ms)
            self.progress(at_ms, end_ms)
        world.run_until(scenario.duration_ms)

    def _heal_phase(self) -> None:
        """Remove all faults and wait until the rack has converged at two looks in a row, or the time is up."""
        scenario, world = self.scenario, self.world
        end_ms = scenario.duration_ms + scenario.heal_ms
        self.injector.heal_all()
        self.outages.heal_all()
        good_ms = -1
        for at_ms in range(scenario.duration_ms + SLICE_MS, end_ms + SLICE_MS, SLICE_MS):
            world.run_until(min(at_ms, end_ms))
            self.progress(at_ms, end_ms)
            if not has_converged(world):
                good_ms = -1
            elif good_ms < 0:
                good_ms = world.kernel.now
            else:
                self.converged_ms = good_ms - scenario.duration_ms
                return
        self.pending = waiting(world)

    def _outcome(self, singletons: list[ServiceName]) -> Outcome:
        world, scenario = self.world, self.scenario
        moves = failovers(world.truth, singletons)
        down_ms = unavailable_ms(world.truth, singletons)
        notes = self._notes()
        wishes = self._wishes()
        wishes += compare(scenario.expect, moves, down_ms, notes, len(world.members()))
        checks = self._checks()
        verdict = judge(self.crash, checks, wishes, self.pending)
        return Outcome(
            verdict=verdict,
            expected=scenario.expect.verdict,
            as_expected=verdict == scenario.expect.verdict,
            scenario=scenario.name,
            seed=self.seed,
            fidelity=self.fidelity,
            sim_ms=world.kernel.now,
            wall_ms=0,
            events=world.events,
            steps=world.steps,
            digest=self.recorder.digest(),
            failovers=moves,
            checks=checks,
            expectations=wishes,
            unavailable_ms=down_ms,
            notes=notes,
            converged_ms=self.converged_ms,
            pending=self.pending,
            crash=self.crash,
            figures={**_power(world.truth), **figures(world.truth, singletons, moves)},
            lost_writes=sum(own.lost for own in world.truth.survival.values()),
            double_writers=world.truth.clients.double_writers,
            acknowledged_writes=world.truth.clients.acknowledged,
            client_gap_ms=world.truth.clients.client_gap_ms(world.kernel.now),
        )

    def _notes(self) -> dict[str, int]:
        """How often each note was made, those that were, in the order of ``core.notes``."""
        counts = dict.fromkeys(NOTES, 0)
        for note in self.world.truth.notes:
            counts[note.kind] = counts.get(note.kind, 0) + 1
        return {kind: count for kind, count in counts.items() if count}

    def _wishes(self) -> tuple[Expectation, ...]:
        """What is expected of every scenario: that the rack settles before the first fault."""
        if self.settled is None:
            return ()
        got = "settled" if not self.settled else "; ".join(self.settled[:3])
        wanted = f"settled within {self.scenario.settle_ms:,d} ms"
        return (Expectation(name="settle_ms", ok=not self.settled, wanted=wanted, got=got),)

    def _checks(self) -> tuple[Check, ...]:
        """The invariants that every machine was held to, and every checker of the truth."""
        invariants = Check(name="invariants", ok=not self.broken, detail=self.broken or "held at every step looked at")
        return (invariants, *checkers.check_all(self.world))


def _power(truth: Truth) -> dict[str, int]:
    """Count the power orders that were obeyed, by what they ordered."""
    acts = [act.action for act in truth.power if act.obeyed]
    return {"power_cycles": acts.count("cycle"), "power_offs": acts.count("off"), "power_ons": acts.count("on")}
