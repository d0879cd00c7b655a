"""How likely is the loss of data, and how available is the storage, of a cluster: everything in one object."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from core.errors import InputError
from twin.capacity.assumptions import Assumptions
from twin.capacity.cluster import Cluster
from twin.capacity.fill import place_all
from twin.capacity.source import read_source
from twin.durability.annual import BINS, HOURS_A_YEAR, Loss, annual_loss
from twin.durability.behaviour import Behaviour
from twin.durability.durations import Duration, mean_hours
from twin.durability.estimate import Estimate
from twin.durability.figures import load_figures
from twin.durability.layout import Layout
from twin.durability.markov import Code, loss_within
from twin.durability.measured import independent, measured, read_behaviour
from twin.durability.pools import layouts_of, recovery_of
from twin.durability.simultaneous import loss_table
from twin.durability.site import Site
from twin.durability.unavailable import Unavailability, below_min_size, unavailability
from twin.table import Table

NEARLY_EMPTY = 0.25
VARIANTS = {
    "independent": "each disk and node on its own, as often as with all of it",
    "components": "nodes, PDUs, racks and cuts of the site's power take what hangs on them along",
    "bursts": "and bursts strike several nodes at once",
}


class Outcome(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """One pool under one kind of behaviour (``VARIANTS``).

    ``below_ratio``: share of time of the mean group below ``min_size``, computed without bursts; None where bursts
    leave only the simulated figure.
    """

    variant: str
    loss: Loss
    away: Unavailability
    below_ratio: float | None


class PoolLoss(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """One pool. ``recovery_source``: how the recovery time was found. ``behaviours``: by variant.

    ``markov``: chance of loss by the Markov chain of one copyset, summed over the copysets.
    """

    layout: Layout
    recovery: Duration
    recovery_source: str
    behaviours: dict[str, Behaviour]
    copysets: int
    scatter_width: float
    markov: float
    outcomes: tuple[Outcome, ...]
    at_once: Table

    def outcome(self, variant: str) -> Outcome | None:
        """Return the outcome of a variant, if it was computed."""
        return next((one for one in self.outcomes if one.variant == variant), None)

    def ratio(self) -> float | None:
        """Return how much more likely loss is than under independence, if both figures converged."""
        first, last = self.outcomes[0].loss.probability.value, self.outcomes[-1].loss.probability.value
        return float(last / first) if first and last else None


class Durability(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """The answer of ``twin durability``."""

    name: str
    source: str
    years: float
    bursts: str
    pools: tuple[PoolLoss, ...]
    figures: Assumptions
    warnings: tuple[str, ...]

    @property
    def table(self) -> Table:
        """One row for each pool and variant; NaN where sampling did not converge."""
        rows: list[dict[str, object]] = []
        for pool in self.pools:
            for one in pool.outcomes:
                found, away = one.loss.probability, one.away
                rows.append(
                    {
                        "pool": pool.layout.name,
                        "variant": one.variant,
                        "loss": _number(found),
                        "loss_low": found.low,
                        "loss_high": found.high,
                        "effective_samples": found.effective,
                        "below_min_size": _number(away.per_group) if one.below_ratio is None else one.below_ratio,
                        "any_below_min_size": _number(away.any_group),
                    }
                )
        units = {
            "loss": f"in {self.years:g} years",
            "below_min_size": "share of time",
            "any_below_min_size": "the same",
        }
        return Table({key: [row[key] for row in rows] for key in rows[0]}, units, "Data loss and availability")

    @property
    def survival(self) -> Table:
        """The chance that a pool still has all its data, over time: a row for each pool, variant and moment."""
        at = np.linspace(0.0, self.years, BINS + 1)
        names, kinds, years, kept = [], [], [], []
        for pool in self.pools:
            for one in pool.outcomes:
                names += [pool.layout.name] * len(at)
                kinds += [one.variant] * len(at)
                years += at.tolist()
                kept += [1.0, *(1.0 - one.loss.curve).tolist()]
        return Table(
            {"pool": names, "variant": kinds, "years": years, "survival": kept}, {"years": "years"}, "Survival"
        )


def _number(of: Estimate) -> float:
    return math.nan if of.value is None else of.value


def data_loss(
    source: Path | str,
    years: float = 1.0,
    bursts: str = "ford",
    settings: Sequence[str] = (),
    assume: Path | None = None,
    samples: int = 2_000,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Durability:
    """Compute how likely a cluster is to lose data within ``years``, and how long its storage is unavailable.

    ``source``: a rack file, or a folder of JSON of a real Ceph cluster. ``bursts``: "ford", "none", or a file with a
    behaviour of one's own (docs/durability.md). ``settings``: ``key=value`` pairs that change an assumption.
    ``samples``: branches of importance sampling for each pool and variant. The same arguments give the same result.

    Raises: InputError with every problem of the files and settings.
    """
    figures = load_figures(settings, assume)
    cluster = read_source(Path(source), figures)
    placed = place_all(cluster.osdmap)
    layouts = layouts_of(cluster, placed)
    if not layouts:
        raise InputError([f"{source}: has no pools; needed: at least one"])
    own = None if bursts in ("ford", "none") else read_behaviour(Path(bursts))
    pools: list[PoolLoss] = []
    warnings = list(cluster.warnings)
    steps = len(layouts) * (2 if bursts == "none" else 3)
    for pool, whole in layouts.items():
        layout = whole.served()
        if layout.pgs < whole.pgs:
            warnings.append(f"pool {whole.name}: {whole.pgs - layout.pgs} PGs have no disks to be on and are left out")
        recovery, why = recovery_of(cluster, placed, figures, pool) if own is None else (own.recovery, bursts)
        behaviours = _behaviours(figures, layout, recovery, bursts, own)
        outcomes: list[Outcome] = []
        for variant, behaviour in behaviours.items():
            outcomes.append(_outcome(variant, layout, behaviour, years, samples, seed))
            if progress is not None:
                progress(len(pools) * len(behaviours) + len(outcomes), steps)
        pools.append(_pool(layout, why, behaviours, tuple(outcomes), years, seed))
    return Durability(
        name=cluster.name,
        source=str(source),
        years=years,
        bursts=bursts,
        pools=tuple(pools),
        figures=figures,
        warnings=(*warnings, *_warnings(cluster, pools[0].recovery_source)),
    )


def _warnings(cluster: Cluster, recovery_source: str) -> tuple[str, ...]:
    used = sum(osd.used_bytes for osd in cluster.osds) / max(1, sum(osd.size_bytes for osd in cluster.osds))
    if used < NEARLY_EMPTY and recovery_source.startswith("twin plan"):
        return (f"the disks are {used:.0%} full: recovery takes longer, and loss is likelier, as they fill",)
    return ()


def _behaviours(
    figures: Assumptions, layout: Layout, recovery: Duration, bursts: str, own: Behaviour | None
) -> dict[str, Behaviour]:
    """The variants to compare, all of the same rates of the single disk and node."""
    if own is not None:
        full, parts = own, msgspec.structs.replace(own, bursts=())
        found = {"independent": independent(full, layout), "components": parts}
        return {**found, "bursts": full} if own.bursts else found
    parts = measured(figures, layout, recovery, bursts=False)
    if bursts == "none":
        return {"independent": independent(parts, layout), "components": parts}
    full = measured(figures, layout, recovery, bursts=True)
    return {"independent": independent(full, layout), "components": parts, "bursts": full}


def _outcome(variant: str, layout: Layout, behaviour: Behaviour, years: float, samples: int, seed: int) -> Outcome:
    loss = annual_loss(Site(layout, behaviour), years * HOURS_A_YEAR, samples, seed)
    below: npt.NDArray[np.float64] | None = None if behaviour.bursts else below_min_size(layout, behaviour)
    return Outcome(
        variant=variant,
        loss=loss,
        away=unavailability(layout, behaviour, seed=seed),
        below_ratio=None if below is None else float(below.mean()),
    )


def _pool(
    layout: Layout,
    recovery_source: str,
    behaviours: dict[str, Behaviour],
    outcomes: tuple[Outcome, ...],
    years: float,
    seed: int,
) -> PoolLoss:
    alone = behaviours["independent"]
    copysets = len(layout.copysets())
    code = Code(shards=layout.shards.shape[1], tolerance=layout.tolerance)
    hours = mean_hours(alone.recovery)
    one = loss_within(code, mean_hours(alone.disk.life), hours, "parallel", years * HOURS_A_YEAR) if hours > 0 else 0.0
    return PoolLoss(
        layout=layout,
        recovery=alone.recovery,
        recovery_source=recovery_source,
        behaviours=behaviours,
        copysets=copysets,
        scatter_width=float(layout.scatter_width().mean()),
        markov=min(1.0, copysets * one),
        outcomes=outcomes,
        at_once=loss_table(layout, seed=seed),
    )
