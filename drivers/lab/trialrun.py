"""One run of a scenario on a lab that has settled: clients, faults, healing, convergence, audit, verdict."""

import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import msgspec

from core.errors import InputError
from core.ids import ServiceName
from drivers.clock import now_ms
from drivers.lab.audit import Row, out_of_order, rows
from drivers.lab.client import ClientPlan, read_history
from drivers.lab.fault import LabFault
from drivers.lab.history import ended_by, serving_spans
from drivers.lab.inject import Injector
from drivers.lab.journals import Said
from drivers.lab.lab import await_settled
from drivers.lab.rack import LabRack
from drivers.lab.services import Endpoint
from trial.expect import compare
from trial.fault import Planned
from trial.history import acknowledged, by_service, client_gap_ms, double_writers, linearizable, lost_writes
from trial.marks import ClientOp, Marks
from trial.measures import failovers, figures, unavailable_ms
from trial.scenario import Scenario
from trial.verdict import Check, Crash, Expectation, Outcome, judge

EVERY_MS = 20
"""Each service is asked this often, by its writer and its reader in turn."""
LEAD_MS = 2_500
"""The first fault strikes this long after the clients' first answers, unless the scenario's own times count."""
HOLD_MS = 15_000
"""A fault that the scenario does not end lasts at least this long, and until clients are served again."""
CALM_MS = 3_000
HOLD_MS_MAX = 120_000
LASTS_MS_MAX = 120_000
"""A fault that the scenario ends later than this after its begin is ended then, unless its own times count."""
HEAL_MS_MAX = 300_000
FIRST_ANSWER_MS_MAX = 30_000
AUDIT_MS_MAX = 20_000
TAIL_BYTES = 64 << 10
GAP_MS = 60_000
"""Faults further apart than this are two stages of a run whose machines are found."""
STAGE_MS_MAX = 420_000
WATCH_MS, SHOWN_MS_MAX = 1_000, 30_000

Say = Callable[[str], None]


class RunOptions(msgspec.Struct, frozen=True, kw_only=True):
    """``as_written``: strike at the scenario's own times; ``folder``: where the run's files go."""

    folder: Path
    as_written: bool = False


class Ran(msgspec.Struct, frozen=True, kw_only=True):
    """A run's outcome and all that it was judged by."""

    outcome: Outcome
    marks: Marks


class TrialRun:
    """One run. ``result`` does all of it."""

    def __init__(
        self,
        rack: LabRack,
        scenario: Scenario[LabFault],
        endpoints: tuple[Endpoint, ...],
        options: RunOptions,
        say: Say,
    ) -> None:
        self._rack = rack
        self._scenario = scenario
        self._endpoints = endpoints
        self._options = options
        self._say = say
        self._marks = Marks()
        self._base = time.time_ns() // 1_000_000
        self._crash: Crash | None = None
        self._pending: tuple[str, ...] = ()
        self._converged_ms = -1
        self._kept: dict[ServiceName, list[Row] | None] = {}
        self._history = options.folder / "history.jsonl"
        self._ops: list[ClientOp] = []
        self._spare = [node.id for node in rack.layout.nodes if not node.plugged]

    def result(self) -> Ran:
        """Run the scenario. Raises: InputError, OSError of the caller's folder."""
        begun_ms = now_ms()
        self._options.folder.mkdir(parents=True, exist_ok=True)
        clients = self._start_clients()
        try:
            self._attempt()
        finally:
            self._marks.end_ms = now_ms()
            clients.send_signal(signal.SIGTERM)
            clients.wait()
        self._ops = read_history(self._history)
        self._audit()
        outcome = self._outcome(now_ms() - begun_ms)
        return Ran(outcome=outcome, marks=self._marks)

    def _start_clients(self) -> "subprocess.Popen[bytes]":
        every_ms = EVERY_MS if self._scenario.clients.every_ms else 0
        plan = ClientPlan(endpoints=self._endpoints if every_ms else (), every_ms=every_ms, base=self._base)
        file = self._options.folder / "clients.json"
        file.write_bytes(msgspec.json.encode(plan))
        self._history.unlink(missing_ok=True)
        self._history.touch()
        argv = (sys.executable, "-m", "drivers.lab.client", str(file), str(self._history))
        return subprocess.Popen(argv, stdin=subprocess.DEVNULL)

    # -- the phases -------------------------------------------------------------------------------------------------

    def _attempt(self) -> None:
        """All phases; an error nobody expected is a verdict, and the faults are healed all the same."""
        injector: Injector | None = None
        try:
            self._await_answers()
            self._marks.start_ms = now_ms()
            injector = Injector(self._rack, self._planned(), self._marks, self._scenario.seed)
            self._fault_phase(injector)
            self._heal_phase(injector)
        except (InputError, KeyboardInterrupt):
            raise
        except Exception as error:  # noqa: BLE001 - any other error is the verdict "crash", told with its traceback
            what = f"{type(error).__name__}: {error}"
            at_ms = now_ms() - self._marks.start_ms
            self._crash = Crash(at_ms=at_ms, what=what, traceback=traceback.format_exc())
        finally:
            self._rack.timeline.clear()
            self._rack.busy = False
            if injector is not None:
                injector.heal_all()

    def _await_answers(self) -> None:
        """Wait until every service has answered a client; where machines are still to be found nobody waits."""
        if self._rack.layout.found:
            self._rack.strangers.begin()
            return
        wanted = {endpoint.service for endpoint in self._endpoints} if self._scenario.clients.every_ms else set()

        def answered() -> bool:
            return wanted <= {op.service for op in self._tail() if op.outcome == "ok"}

        if not self._rack.timeline.run_until(now_ms() + FIRST_ANSWER_MS_MAX, answered):
            self._say("some services do not answer clients")

    def _planned(self) -> tuple[Planned[LabFault], ...]:
        faults = self._scenario.faults
        if self._options.as_written:
            return faults
        return tuple(
            msgspec.structs.replace(
                planned,
                fault=msgspec.structs.replace(planned.fault, for_ms=min(planned.fault.for_ms, LASTS_MS_MAX)),
            )
            for planned in faults
        )

    def _fault_phase(self, injector: Injector) -> None:
        if self._rack.layout.found and not self._options.as_written:
            self._stages(injector)
            return
        scenario, timeline = self._scenario, self._rack.timeline
        first_ms = min((planned.fault.at_ms for planned in scenario.faults), default=scenario.duration_ms)
        lead_ms = first_ms if self._options.as_written else min(first_ms, LEAD_MS)
        begin_ms = now_ms() + lead_ms - first_ms
        injector.arm(begin_ms)
        end_ms = begin_ms + scenario.duration_ms
        self._say(f"faults begin in {lead_ms / 1_000:.1f} s")
        if self._options.as_written or not scenario.faults:
            timeline.run_until(end_ms if self._options.as_written else min(end_ms, now_ms() + HOLD_MS))
            return
        calm = Calm(self._tail, {endpoint.service for endpoint in self._endpoints})

        def over() -> bool:
            held_ms = now_ms() - injector.last_ms
            return not injector.pending and held_ms >= HOLD_MS and (held_ms >= HOLD_MS_MAX or calm())

        timeline.run_until(end_ms, over)

    def _stages(self, injector: Injector) -> None:
        """Where a scenario waits long, wait until all have joined: here that takes seconds instead of minutes."""
        rack, scenario = self._rack, self._scenario
        self._watch()
        rack.timeline.after(2 * LEAD_MS, rack.plug_in_dark)
        for stage in stages_of(self._planned()):
            first_ms = min(planned.fault.at_ms for planned in stage)
            self._say(f"faults: {', '.join(dict.fromkeys(planned.kind for planned in stage))}")
            injector.arm(now_ms() + LEAD_MS - first_ms, stage)
            rack.timeline.run_until(now_ms() + scenario.duration_ms, lambda: not injector.pending)
            self._pending = await_settled(rack, STAGE_MS_MAX, self._say)

    def _watch(self) -> None:
        """See what `rack status` shows of refusals, once a second until the run ends."""
        self._rack.strangers.look(self._rack.observer.views().values())
        self._rack.timeline.after(WATCH_MS, self._watch)

    def _heal_phase(self, injector: Injector) -> None:
        """Remove all faults and wait until the rack has converged."""
        self._say("all faults are removed")
        struck = {node for mark in self._marks.faults if mark.fault == "new_node" for node in mark.nodes}
        spare = tuple(node for node in self._spare if node not in struck)
        injector.heal_all()
        healed_ms = now_ms()
        bound_ms = self._scenario.heal_ms if self._options.as_written else min(self._scenario.heal_ms, HEAL_MS_MAX)
        self._pending = await_settled(self._rack, bound_ms, self._say, spare)
        self._converged_ms = -1 if self._pending else now_ms() - healed_ms
        if self._rack.layout.found:
            self._rack.timeline.run_until(now_ms() + SHOWN_MS_MAX, self._rack.strangers.over)

    def _audit(self) -> None:
        """Read every register to its end, now that nobody writes any more."""
        for endpoint in self._endpoints:
            if endpoint.keeps and self._scenario.clients.every_ms:
                self._kept[endpoint.service] = rows(endpoint, self._base, AUDIT_MS_MAX)

    def _tail(self) -> list[ClientOp]:
        """The last operations that clients wrote down."""
        decoder = msgspec.json.Decoder(ClientOp)
        with self._history.open("rb") as file:
            file.seek(0, 2)
            size = file.tell()
            file.seek(max(0, size - TAIL_BYTES))
            lines = file.read().split(b"\n")
        return [decoder.decode(line) for line in lines[1 if size > TAIL_BYTES else 0 : -1]]

    # -- the judgement ----------------------------------------------------------------------------------------------

    def _outcome(self, wall_ms: int) -> Outcome:
        scenario, marks = self._scenario, self._marks
        said = Said(self._rack.layout, marks.start_ms, marks.end_ms)
        said.add_faults(marks.faults)
        marks.notes = said.notes
        marks.serving.all = serving_spans(self._ops, marks.end_ms)
        ended_by(marks.serving.all, marks.faults)
        asked = {endpoint.service for endpoint in self._endpoints}
        singletons = [name for name in scenario.catalog.singletons if name in asked]
        moves = failovers(marks, singletons)
        down_ms = unavailable_ms(marks, singletons)
        joined = len(self._rack.observer.members())
        wishes: tuple[Expectation, ...] = compare(scenario.expect, moves, down_ms, said.counts(), joined)
        checks = self._checks()
        verdict = judge(self._crash, checks, wishes, self._pending)
        lost, double = self._lost(), double_writers(self._ops)
        return Outcome(
            verdict=verdict,
            expected=scenario.expect.verdict,
            as_expected=verdict == scenario.expect.verdict,
            scenario=scenario.name,
            seed=0,
            fidelity="lab",
            sim_ms=marks.end_ms - marks.start_ms,
            wall_ms=wall_ms,
            events=0,
            steps=0,
            digest="",
            failovers=moves,
            checks=checks,
            expectations=wishes,
            unavailable_ms=down_ms,
            notes=said.counts(),
            converged_ms=self._converged_ms,
            pending=self._pending,
            crash=self._crash,
            figures=figures(marks, singletons, moves),
            lost_writes=len(lost),
            double_writers=len(double),
            acknowledged_writes=len(acknowledged(self._ops)),
            client_gap_ms=client_gap_ms(self._ops, marks.end_ms),
            samples={phase: tuple(values) for phase, values in said.samples.items()},
        )

    def _lost(self) -> list[ClientOp]:
        """Acknowledged writes that the registers do not have any more."""
        found: list[ClientOp] = []
        for service, ops in by_service(self._ops):
            kept = self._kept.get(service)
            if kept is not None:
                values = [row.value for row in kept]
                found += lost_writes(ops, values[-1] if values else 0, values)
        return found

    def _checks(self) -> tuple[Check, ...]:
        """What must hold of every run: judged by what clients saw and what the registers kept."""
        strangers = self._rack.strangers.checks() if self._rack.layout.found else ()
        lost, double = self._lost(), double_writers(self._ops)
        order = "; ".join(f"{s}: {said}" for s, kept in self._kept.items() if kept and (said := out_of_order(kept)))
        silent = [str(service) for service, kept in self._kept.items() if kept is None]
        said = linearizable(self._ops)
        first = f"write {lost[0].value} of {lost[0].service} was acknowledged and is gone" if lost else ""
        two = f"{double[0].node} answered under epoch {double[0].epoch} after a newer one had" if double else ""
        return (
            Check(name="linearizable", ok=not said, detail=said),
            Check(name="acknowledged_writes_survive", ok=not lost, detail=first),
            Check(name="single_writer", ok=not order, detail=order),
            Check(name="one_at_a_time", ok=not double, detail=two),
            Check(
                name="everywhere_running",
                ok=not silent,
                detail=f"no register to audit: {', '.join(silent)}" if silent else "",
            ),
            *strangers,
        )


def stages_of(faults: tuple[Planned[LabFault], ...]) -> list[tuple[Planned[LabFault], ...]]:
    """Split faults, in order of time, wherever a scenario waits long before the next one."""
    stages: list[tuple[Planned[LabFault], ...]] = []
    for planned in sorted(faults, key=lambda planned: planned.fault.at_ms):
        if stages and planned.fault.at_ms - stages[-1][-1].fault.at_ms <= GAP_MS:
            stages[-1] = (*stages[-1], planned)
        else:
            stages.append((planned,))
    return stages


class Calm:
    """Whether every service has answered its clients for a while, and none in vain."""

    def __init__(self, tail: Callable[[], list[ClientOp]], services: set[ServiceName]) -> None:
        self._tail = tail
        self._services = services
        self._looked_ms = 0
        self._calm = False

    def __call__(self) -> bool:
        """Look at most once a second."""
        if now_ms() - self._looked_ms >= 1_000:
            self._looked_ms = now_ms()
            late = [op for op in self._tail() if op.answered_ms >= self._looked_ms - CALM_MS]
            good = {op.service for op in late if op.outcome == "ok"}
            self._calm = self._services <= good and not any(op.outcome != "ok" for op in late)
        return self._calm
