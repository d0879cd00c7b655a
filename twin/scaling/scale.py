"""How a rack scales: grown size by size through the real join path, measured, and the law of scalability fitted."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import msgspec

from core.errors import InputError
from core.specs import Timing
from formats.catalog import load_catalog
from formats.hardware import Server
from formats.rack import load_rack
from twin.calibration import load
from twin.scaling import site
from twin.scaling.delivered import churn_yearly, deliver
from twin.scaling.figures import figure
from twin.scaling.meter import Clock
from twin.scaling.placed import placed_bytes
from twin.scaling.rows import Row, Surroundings, row_of
from twin.scaling.site import Plan, Sample, grown, measure
from twin.scaling.storm import Storm, storm
from twin.scaling.usl import Power, Usl, fit, power
from twin.table import Table

SIZES = (5, 10, 30, 100, 300, 1_000)
SEEDS = 3
NODES_MIN, NODES_MAX = 3, 10_000
CATALOG = Path("catalog/minimal.toml")

Job = Callable[[], Sample | Storm]
Runner = Callable[[Sequence[Job]], Iterable[Sample | Storm]]
"""Carries jobs out, perhaps several at a time, and hands their results back in the order of the jobs."""


class Term(msgspec.Struct, frozen=True, kw_only=True):
    """One cost and how fast it grows with the rack: as N to the ``exponent``, None where it is too often 0.

    ``smallest``, ``largest``: the cost in the smallest and the largest rack.
    """

    name: str
    unit: str
    exponent: float | None
    exponent_ci: tuple[float, float] | None
    smallest: float
    largest: float


class Scaling(msgspec.Struct, frozen=True, kw_only=True):
    """What `twin scale` found. ``usl`` is the fit to what the rack delivers; ``fits`` are harsher ones, by name.

    ``churn_yearly``: how often each node is lost and joins again in a year. ``terms``: what a node costs, and how fast
    that grows. ``broken``: what the certificate of linear scaling finds (``twin.scaling.certificate``).
    """

    usl: Usl
    fits: dict[str, Usl]
    churn_yearly: float
    terms: tuple[Term, ...]
    rows: tuple[Row, ...]
    words: tuple[str, ...] = ()
    broken: tuple[str, ...] = ()

    @property
    def table(self) -> Table:
        """One row for each size: the columns of ``Row`` that are numbers."""
        left_out = ("shares", "cold_start", "usable_placed_bytes")
        names = [name for name in Row.__struct_fields__ if name not in left_out]
        units = {name: unit for name in names if (unit := _unit(name))}
        return Table({name: [getattr(row, name) for row in self.rows] for name in names}, units, "One more node")

    @property
    def summary(self) -> Table:
        """The few columns that a person looks for first, in units that need no counting of digits."""
        rows = self.rows
        columns: dict[str, Sequence[object]] = {
            "nodes": [row.nodes for row in rows],
            "delivers": [row.delivered for row in rows],
            "usable": [row.usable_bytes / 1e12 for row in rows],
            **_placed_column(rows),
            "VMs": [row.usable_vms for row in rows],
            "join": [row.join_ms / 1000 for row in rows],
            "failover": [row.failover_ms / 1000 for row in rows],
            "messages": [row.messages_per_node_day for row in rows],
            "agent": [row.memory_bytes / 1e6 for row in rows],
            "step": [row.step_us for row in rows],
            "snapshot": [row.zookeeper_snapshot_bytes / 1e3 for row in rows],
        }
        units = {
            "delivers": "nodes",
            "usable": "TB",
            "join": "s",
            "failover": "s",
            "messages": "/node/day",
            "agent": "MB",
            "step": "us",
            "snapshot": "kB",
        }
        if "placed" in columns:
            units["placed"] = "TB"
        if all(row.cold_start is not None for row in rows):
            columns["cold start"] = [row.cold_start.joined_ms / 60_000 for row in rows if row.cold_start is not None]
            units["cold start"] = "min"
        return Table(columns, units, "What racks deliver, and what one more node costs")

    @property
    def growth(self) -> Table:
        """One row for each cost: how fast it grows with the rack."""
        terms = [term for term in self.terms if term.exponent is not None]
        return Table(
            {
                "cost": [term.name for term in terms],
                "unit": [term.unit for term in terms],
                "smallest": [term.smallest for term in terms],
                "largest": [term.largest for term in terms],
                "exponent": [term.exponent for term in terms],
                "from": [term.exponent_ci[0] if term.exponent_ci else 0.0 for term in terms],
                "to": [term.exponent_ci[1] if term.exponent_ci else 0.0 for term in terms],
            },
            title="How costs grow: as N to the exponent",
        )


def scale(
    nodes: Sequence[int] = SIZES,
    seeds: int = SEEDS,
    *,
    rack: Path | None = None,
    catalog: Path = CATALOG,
    storms: int = NODES_MAX,
    placed: bool = True,
    clock: Clock | None = None,
    run: Runner | None = None,
    make: site.Make | None = None,
) -> Scaling:
    """Grow racks to these sizes with ``seeds`` seeds each, and fit.

    ``rack``: a rack file whose first server is the model that all racks are made of. ``storms``: the largest size of
    which a cold start is measured, 0 for none. ``placed``: whether data is placed with CRUSH, too. ``clock`` counts
    processor time in nanoseconds; without one, steps of agents cost nothing. ``make`` builds the machines, if others
    than the core's are to be tried.

    Raises: InputError for sizes that cannot be fitted, and for files that cannot be read.
    """
    sizes = _checked(nodes, seeds)
    plan = Plan(catalog=load_catalog(catalog), pattern=_pattern(rack), make=make)
    if not any(spec.run == "singleton" and spec.volume for spec in plan.catalog.specs):
        raise InputError([f"{catalog}: has no singleton with a volume; needed: one, whose holder is lost"])
    jobs: list[Job] = [partial(measure, size, seed, plan, clock) for size in sizes for seed in range(1, seeds + 1)]
    jobs += [partial(storm, size, 1, plan, clock) for size in sizes if size <= storms]
    samples: dict[int, list[Sample]] = {size: [] for size in sizes}
    cold: dict[int, Storm] = {}
    for done in (run or _one_by_one)(jobs):
        if isinstance(done, Sample):
            samples[done.nodes].append(done)
        else:
            cold[done.nodes] = done
    lying = {size: placed_bytes(grown(size, 0, plan)) for size in sizes if placed and _disks(plan, size)}
    return summed_up(samples, cold, plan, lying)


def summed_up(
    samples: Mapping[int, Sequence[Sample]], cold: Mapping[int, Storm], plan: Plan, lying: Mapping[int, int]
) -> Scaling:
    """Fit what was measured, by size. ``lying``: usable bytes as CRUSH places data, where that was worked out."""
    from twin.scaling.certificate import broken  # both look at what is made here
    from twin.scaling.words import in_words

    around = Surroundings(catalog=plan.catalog, timing=Timing(), heartbeat_ms=load()["peers.interval_ms"].ms)
    racks = {size: grown(size, 0, plan) for size in samples}
    rows = tuple(
        row_of(samples[size], racks[size], around, cold.get(size), lying.get(size)) for size in sorted(samples)
    )

    def delivered(yearly: float) -> dict[int, list[float]]:
        return {
            size: [deliver(s, racks[size], around.timing, around.heartbeat_ms, yearly).node_equivalents for s in found]
            for size, found in samples.items()
        }

    fits = {"every_node_lost_daily": fit(delivered(figure("harsh_yearly")))}
    fits["changes_by_messages"] = fit(
        {size: [1 / _churn_messages(s) for s in found] for size, found in samples.items()}
    )
    if all(_churn_ns(s) > 0 for found in samples.values() for s in found):
        fits["changes_by_processor"] = fit({n: [1e9 / _churn_ns(s) for s in found] for n, found in samples.items()})
    if len(cold) >= 3:
        fits["cold_start_joins"] = fit({size: [size / (one.joined_ms / 1000)] for size, one in cold.items()})
    if len(lying) >= 3:
        fits["bytes_as_placed"] = fit({size: [count / lying[min(lying)]] for size, count in lying.items()})
    found = Scaling(
        usl=fit(delivered(churn_yearly())),
        fits=fits,
        churn_yearly=churn_yearly(),
        terms=_terms(samples, cold),
        rows=rows,
    )
    return msgspec.structs.replace(found, words=in_words(found), broken=broken(found))


def time_to_join(nodes: int, seed: int, *, rack: Path | None = None, catalog: Path = CATALOG) -> int:
    """Measure from carrying one more server into a settled rack of ``nodes`` until it is a member, in milliseconds.

    Raises: InputError for files that cannot be read, or if the server does not join.
    """
    return site.time_to_join(nodes, seed, Plan(catalog=load_catalog(catalog), pattern=_pattern(rack)))


def _churn_ns(sample: Sample) -> float:
    """Processor time of one agent for one loss and one join somewhere in the rack."""
    return (sample.join.probe_ns + sample.loss.probe_ns) / sample.probes


def _churn_messages(sample: Sample) -> float:
    """Messages of one node for one loss and one join somewhere in the rack."""
    return (sample.join.messages + sample.loss.messages) / sample.nodes


def _daily(sample: Sample) -> float:
    """Messages of one node in a day: each of its own for every loss and join in the whole rack."""
    return churn_yearly() * sample.nodes / 365.25 * _churn_messages(sample)


_COSTS: tuple[tuple[str, str, Callable[[Sample], float]], ...] = (
    ("time to join one more", "ms", lambda s: s.join_ms),
    ("failover after a proved loss", "ms", lambda s: s.failover_ms),
    ("failover after a silent loss", "ms", lambda s: s.silent_failover_ms),
    ("watch events per change and node", "events", lambda s: _per_change(s) / s.nodes),
    ("messages per join and node", "messages", lambda s: s.join.messages / s.nodes),
    ("bytes per join and node", "bytes", lambda s: s.join.bytes / s.nodes),
    ("messages per loss and node", "messages", lambda s: s.loss.messages / s.nodes),
    ("steps of all agents at rest, per node", "steps a minute", lambda s: s.calm.steps / s.nodes),
    ("messages of a node a day, at the stated churn", "messages", lambda s: _daily(s)),
    ("watches per node", "watches", lambda s: s.watches / s.nodes),
    ("snapshot per node", "bytes", lambda s: s.snapshot_bytes / s.nodes),
    ("memory of one agent", "bytes", lambda s: s.memory_bytes),
    ("one step of an agent", "us", lambda s: _probe_us(s)),
    ("steps of one agent for a loss and a join", "us", lambda s: _churn_ns(s) / 1000),
)


def _per_change(sample: Sample) -> float:
    return (sample.join.watch_events + sample.loss.watch_events) / max(1, sample.join.changes + sample.loss.changes)


def _probe_us(sample: Sample) -> float:
    return (
        (sample.join.probe_ns + sample.loss.probe_ns) / 1000 / max(1, sample.join.probe_steps + sample.loss.probe_steps)
    )


def _terms(samples: Mapping[int, Sequence[Sample]], cold: Mapping[int, Storm]) -> tuple[Term, ...]:
    costs = [
        (name, unit, {size: [float(cost(s)) for s in found] for size, found in samples.items()})
        for name, unit, cost in _COSTS
    ]
    if len(cold) >= 3:
        costs.append(("cold start, until all have joined", "ms", {n: [float(s.joined_ms)] for n, s in cold.items()}))
        costs.append(("cold start, messages per node", "messages", {n: [_messages(s) / n] for n, s in cold.items()}))
    return tuple(_term(name, unit, by_size) for name, unit, by_size in costs)


def _messages(cold: Storm) -> float:
    return cold.watch_events + 2 * cold.requests


def _term(name: str, unit: str, by_size: dict[int, list[float]]) -> Term:
    found: Power | None = power(by_size)
    ends = [sum(by_size[size]) / len(by_size[size]) for size in (min(by_size), max(by_size))]
    return Term(
        name=name,
        unit=unit,
        exponent=found.exponent if found else None,
        exponent_ci=found.exponent_ci if found else None,
        smallest=ends[0],
        largest=ends[1],
    )


def _one_by_one(jobs: Sequence[Job]) -> Iterator[Sample | Storm]:
    return (job() for job in jobs)


def _checked(nodes: Sequence[int], seeds: int) -> list[int]:
    sizes = sorted(dict.fromkeys(nodes))
    bad = [size for size in sizes if not NODES_MIN <= size <= NODES_MAX]
    problems = [f"--nodes {size}: allowed: {NODES_MIN} to {NODES_MAX} nodes" for size in bad]
    if len(sizes) < 3:
        problems.append(f"--nodes {','.join(map(str, nodes))}: needed: three different sizes at least, to fit a curve")
    if not 1 <= seeds <= 100:
        problems.append(f"--seeds {seeds}: allowed: 1 to 100")
    if problems:
        raise InputError(problems)
    return sizes


def _placed_column(rows: Sequence[Row]) -> dict[str, list[float]]:
    found = [row.usable_placed_bytes / 1e12 for row in rows if row.usable_placed_bytes is not None]
    return {"placed": found} if len(found) == len(rows) else {}


def _disks(plan: Plan, size: int) -> bool:
    return bool(grown(size, 0, plan).nodes[0].osd_disks)


def _pattern(rack: Path | None) -> Server | None:
    return load_rack(rack).nodes[0] if rack is not None else None


def _unit(name: str) -> str:
    """The unit that the end of a name says."""
    ends = {"_ms": "ms", "_ms_min": "ms", "_ms_max": "ms", "_us": "us", "_bytes": "bytes", "_per_s": "1/s"}
    return next((unit for end, unit in ends.items() if name.endswith(end)), "")
