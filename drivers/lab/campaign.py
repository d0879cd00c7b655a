"""Runs of scenarios on labs: each on a lab that fits it, again and again, with everything written down."""

import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from core.errors import InputError
from drivers.lab import found, network
from drivers.lab.build import Blueprint, lab_catalog, nodes_of
from drivers.lab.fault import LabFault
from drivers.lab.faults import LAB_FAULTS
from drivers.lab.faults_join import JoinFault
from drivers.lab.faults_network import LinkDelay
from drivers.lab.journals import folder_of
from drivers.lab.lab import SETTLE_MS_MAX, await_settled, connect, down, key_of, make_volumes, up
from drivers.lab.layout import LabFailure, Layout, read_layout
from drivers.lab.rack import LabRack
from drivers.lab.services import endpoints
from drivers.lab.shell import enter
from drivers.lab.trialrun import Ran, RunOptions, TrialRun
from formats.problems import Problems
from trial.scenario import Scenario, find_scenarios, load_scenario
from trial.verdict import Outcome, to_json

Say = Callable[[str], None]

VOTERS = 5
"""What the twin's ensembles grow to: who is a minority, and whom a partition leaves without a quorum, hang on it."""
LEAVES_TRACES = ("new_node", "operator_retire")
"""After these a rack is not what it was: the next run gets a new lab."""


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What to run, how often and how. ``keep``: leave the last lab up; ``report``: a folder for all of each run."""

    scenarios: tuple[Path, ...]
    name: str
    folder: Path
    repeat: int = 1
    as_written: bool = False
    keep: bool = False
    real_services: bool = False
    report: Path | None = None
    boot_ms: int = 2_000


class Campaign:
    """Runs scenarios one after the other on one lab, rebuilt only where the next one needs another."""

    def __init__(self, wanted: Wanted, say: Say) -> None:
        self._wanted = wanted
        self._say = say
        self._rack: LabRack | None = None
        self._found_up = False

    def runs(self) -> Iterator[Ran]:
        """Run everything; each run as it is done. Raises: InputError, LabFailure."""
        scenarios = [load(path) for path in self._wanted.scenarios]
        plans = [self._plan(scenario) for scenario in scenarios]
        self._take_up(plans[0] if plans else None)
        try:
            for scenario, plan in sorted(zip(scenarios, plans, strict=True), key=lambda pair: pair[1].layout.key):
                problem = self._problem(scenario, plan)
                if problem and len(scenarios) == 1:
                    raise InputError([problem])
                if problem:
                    self._say(f"left out: {problem}")
                    continue
                for number in range(1, self._wanted.repeat + 1):
                    yield self._run(scenario, plan, number)
        finally:
            if not self._found_up and not (self._wanted.keep and self._rack is not None):
                self._take_down()
            elif self._rack is not None:
                self._rack.observer.close()

    def _plan(self, scenario: Scenario[LabFault]) -> Blueprint:
        wanted = self._wanted
        catalog = scenario.catalog
        layout = Layout(
            name=wanted.name,
            folder=wanted.folder,
            nodes=nodes_of(scenario.rack),
            vips=tuple(spec.address for spec in catalog.specs if spec.address),
            boot_ms=wanted.boot_ms,
            volumes=any(spec.volume for spec in catalog.specs),
            voters=VOTERS,
            found=scenario.boots.discover,
        )
        timing = found.hurried(scenario.timing) if layout.found else scenario.timing
        plan = Blueprint(layout=layout, catalog=catalog, timing=timing, real_services=wanted.real_services)
        return msgspec.structs.replace(plan, layout=msgspec.structs.replace(layout, key=key_of(plan)))

    def _take_up(self, plan: Blueprint | None) -> None:
        """Use the lab that is up in this folder if it is the one that is needed."""
        there = read_layout(self._wanted.folder)
        if there is None:
            return
        if plan is None or there.key != plan.layout.key:
            remedy = f"remedy: rack lab down --dir {self._wanted.folder}, or another --dir and --name"
            raise InputError([f"{self._wanted.folder}: a lab with another rack or catalog is up; {remedy}"])
        enter(there.client)
        self._rack, self._found_up = connect(there), True

    def _lab(self, plan: Blueprint) -> LabRack:
        """A lab for this plan, settled."""
        rack = self._rack
        if rack is not None and rack.layout.key != plan.layout.key:
            self._take_down()
            rack = None
        if rack is None:
            rack = self._rack = up(plan, self._say)
        else:
            spare = tuple(node.id for node in rack.layout.nodes if not node.plugged)
            pending = await_settled(rack, SETTLE_MS_MAX, self._say, spare)
            if pending:
                self._say(f"the lab does not settle ({'; '.join(pending[:3])}): a new one")
                self._take_down()
                rack = self._rack = up(plan, self._say)
        return rack

    def _run(self, scenario: Scenario[LabFault], plan: Blueprint, number: int) -> Ran:
        rack = self._lab(plan)
        own = self._wanted.report / scenario.name / f"{number:03d}" if self._wanted.report is not None else None
        folder = own if own is not None else plan.layout.folder / "run"
        options = RunOptions(folder=folder, as_written=self._wanted.as_written)
        self._say(f"{scenario.name}: run {number} of {self._wanted.repeat}")
        if plan.layout.found and plan.layout.volumes:
            self._make_volumes_later(plan)
        ran = TrialRun(rack, scenario, endpoints(lab_catalog(plan)), options, self._say).result()
        if own is not None:
            _write(own, ran, rack)
        kinds = {planned.kind for planned in scenario.faults}
        spoilt = ran.outcome.pending or ran.outcome.crash is not None or kinds.intersection(LEAVES_TRACES)
        if spoilt or plan.layout.found:  # who was found once is known
            if not self._wanted.keep:
                self._take_down()
        return ran

    def _make_volumes_later(self, plan: Blueprint) -> None:
        """Make the volumes beside the run: the storage has no quorum before machines have joined."""

        def make() -> None:
            try:
                make_volumes(plan)
            except LabFailure as error:
                self._say(str(error))

        threading.Thread(target=make, daemon=True).start()

    def _problem(self, scenario: Scenario[LabFault], plan: Blueprint) -> str:
        """Say what this machine's kernel cannot do for a scenario, or ""."""
        if not any(isinstance(planned.fault, LinkDelay) for planned in scenario.faults):
            return ""
        if network.can_delay(self._lab(plan).layout):
            return ""
        return f"{scenario.path}: link_delay: this kernel has no netem; remedy: modprobe sch_netem"

    def _take_down(self) -> None:
        if self._rack is not None:
            self._rack.observer.close()
            self._rack = None
        down(self._wanted.name, self._wanted.folder, self._say)
        self._found_up = False


def load(path: Path) -> Scenario[LabFault]:
    """Read a scenario for the lab.

    Raises: InputError with every problem, among them faults that have no real counterpart.
    """
    scenario = load_scenario(path, LAB_FAULTS)
    problems = Problems(str(scenario.path))
    if scenario.start == "dark":
        problems.add("start", scenario.start, 'the lab begins a run with a rack that is up; allowed: "warm", "first"')
    if not scenario.boots.discover and (late := [p.kind for p in scenario.faults if isinstance(p.fault, JoinFault)]):
        problems.say(f"{late[0]}: nobody is booted where all servers are listed; needed: [boots] discover = true")
    if scenario.trace is not None:
        problems.say("trace: recorded years cannot be replayed on the lab; allowed: no [trace]")
    problems.check()
    nodes_of(scenario.rack)
    return scenario


def runnable(folder: Path, say: Say) -> tuple[Path, ...]:
    """The scenarios of a folder that the lab can run; the others are named with the reason."""
    found: list[Path] = []
    for path in find_scenarios(folder):
        try:
            load(path)
        except InputError as error:
            say(f"not on the lab: {path.parent.name}: {error.problems[0].partition('; allowed')[0]}")
        else:
            found.append(path)
    if not found:
        raise InputError([f"{folder}: no scenario that the lab can run; needed: folders with scenario.toml"])
    return tuple(found)


def summary(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """One line for each scenario: how often it went as expected."""
    names = dict.fromkeys(outcome.scenario for outcome in outcomes)
    for name in names:
        own = [outcome for outcome in outcomes if outcome.scenario == name]
        good = sum(1 for outcome in own if outcome.as_expected)
        totals = sorted(move.total_ms for outcome in own for move in outcome.failovers)
        middle = f", failovers {len(totals)}, median {totals[len(totals) // 2]} ms" if totals else ""
        yield f"{name}: {good} of {len(own)} as expected{middle}"


def _write(folder: Path, ran: Ran, rack: LabRack) -> None:
    """Keep a run: its outcome, its faults, and the journals of all agents as they are now."""
    (folder / "outcome.json").write_bytes(to_json(ran.outcome))
    (folder / "faults.json").write_bytes(msgspec.json.encode(ran.marks.faults) + b"\n")
    if rack.layout.found:
        (folder / "stranger.json").write_bytes(msgspec.json.encode(rack.strangers.outcomes()) + b"\n")
        (folder / "refusals.json").write_bytes(msgspec.json.encode(list(rack.strangers.shown)) + b"\n")
    for node in rack.layout.nodes:
        journal = folder_of(rack.layout, node.id)
        if journal.is_dir():
            with suppress(OSError):
                shutil.copytree(journal, folder / "journals" / node.id, dirs_exist_ok=True)
