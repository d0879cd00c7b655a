"""Why independence lies: the same disks and rates, placed in several ways, with failures that come together or not."""

import numpy as np
import numpy.typing as npt

from twin.capacity.assumptions import Assumptions
from twin.durability.annual import HOURS_A_YEAR, annual_loss
from twin.durability.durations import Fixed
from twin.durability.estimate import Estimate
from twin.durability.figures import default_figures
from twin.durability.layout import Layout, Whole, synthetic
from twin.durability.measured import independent, measured
from twin.durability.schemes import PUBLISHED, Scheme, loss_closed_form, make_copysets
from twin.durability.simultaneous import loss_of_k
from twin.durability.site import Site
from twin.durability.unavailable import below_min_size, unavailability
from twin.table import Table

PLACEMENTS = ("any nodes", "different racks", "copysets in different racks")


def scheme_table(nodes: int = 5_000, failed_ratio: float = 0.01, trials: int = 20_000, seed: int = 0) -> Table:
    """Tabulate the chance that ``failed_ratio`` of the nodes, lost at once, take data along, for each published scheme.

    Simulated with the actual copysets where there are at most 500,000; computed by the closed form for all.
    Columns: scheme, copysets, computed, simulated, low, high (NaN where not simulated).
    """
    rows: list[tuple[str, float, float, float, float, float]] = []
    failed = round(nodes * failed_ratio)
    for index, scheme in enumerate(PUBLISHED.values()):
        count = scheme.count(nodes)
        found = Estimate(value=None, low=np.nan, high=np.nan)
        if count <= 500_000:
            rng = np.random.Generator(np.random.Philox(key=[seed, index]))
            copysets = make_copysets(scheme, nodes, rng)
            layout = synthetic(copysets, nodes, tolerance=scheme.replicas - 1, nodes_per_rack=nodes, name=scheme.name)
            found = loss_of_k(layout, "node", [failed], trials, rng)[failed]
        simulated = np.nan if found.value is None else found.value
        computed = loss_closed_form(nodes, failed, scheme.replicas, count)
        rows.append((scheme.name, count, computed, simulated, found.low, found.high))
    names = ("scheme", "copysets", "computed", "simulated", "low", "high")
    title = f"{failed} of {nodes:,} nodes lost at once"
    return Table({name: [row[index] for row in rows] for index, name in enumerate(names)}, title=title)


def placed_alike(
    how: str, racks: int, nodes_per_rack: int, disks_per_node: int, pgs: int, rng: np.random.Generator
) -> Layout:
    """Make a made-up pool of three copies. ``how``: one of ``PLACEMENTS``; each uses all disks about as much.

    Raises: ValueError for another ``how``.
    """
    nodes = racks * nodes_per_rack
    chosen: npt.NDArray[np.integer]
    if how == "any nodes":
        chosen = np.argsort(rng.random((pgs, nodes)), axis=1)[:, :3]
    elif how == "different racks":
        chosen = _over_racks(racks, nodes_per_rack, pgs, rng)
    elif how == "copysets in different racks":
        chosen = _copysets(racks, nodes_per_rack, pgs, rng)
    else:
        raise ValueError(how)
    disk = rng.integers(0, disks_per_node, (pgs, 3))
    if how == "copysets in different racks":
        disk = np.repeat(disk[:, :1], 3, axis=1)  # disks of the same number make the copysets, too
    order = np.arange(nodes, dtype=np.int32)
    return Layout(
        name=how,
        shards=(chosen * disks_per_node + disk).astype(np.int32),
        tolerance=2,
        min_size=2,
        node_of=np.repeat(order, disks_per_node).astype(np.int32),
        pdu_of=np.full(nodes, -1, dtype=np.int32),
        rack_of=(order // nodes_per_rack).astype(np.int32),
    )


def _over_racks(racks: int, nodes_per_rack: int, pgs: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    rack = np.argsort(rng.random((pgs, racks)), axis=1)[:, :3]
    return np.asarray(rack * nodes_per_rack + rng.integers(0, nodes_per_rack, (pgs, 3)))


def _copysets(racks: int, nodes_per_rack: int, pgs: int, rng: np.random.Generator) -> Whole:
    """Few copysets of nodes (scatter width 10), only those that lie in three racks."""
    nodes = racks * nodes_per_rack
    found = make_copysets(Scheme(name="", style="copyset", scatter_width=10), nodes, rng)
    apart = np.diff(np.sort(found // nodes_per_rack, axis=1), axis=1).all(axis=1)
    return np.asarray(found[apart][rng.integers(0, int(apart.sum()), pgs)])


def why_independence_lies(
    racks: int = 6,
    nodes_per_rack: int = 10,
    disks_per_node: int = 8,
    pgs: int = 4_096,
    recovery_hours: float = 2.0,
    figures: Assumptions | None = None,
    samples: int = 2_000,
    seed: int = 0,
) -> Table:
    """Compare placements under independence and with the measured correlation, at the same rates of disks and nodes.

    Columns: placement, copysets, loss_independent, loss_correlated (a year; NaN where not converged), loss_ratio,
    away_independent, away_correlated (share of time that the mean PG is below min_size), away_ratio.
    """
    known = figures or default_figures()
    rng = np.random.Generator(np.random.Philox(key=[seed, 0xC0]))
    rows: list[tuple[object, ...]] = []
    for how in PLACEMENTS:
        layout = placed_alike(how, racks, nodes_per_rack, disks_per_node, pgs, rng)
        full = measured(known, layout, Fixed(hours=recovery_hours), bursts=True)
        alone = independent(full, layout)
        found = [
            annual_loss(Site(layout, each), HOURS_A_YEAR, samples, seed).probability.value for each in (alone, full)
        ]
        losses = [np.nan if loss is None else loss for loss in found]
        away = unavailability(layout, full, seed=seed).per_group.value
        aways = [float(below_min_size(layout, alone).mean()), np.nan if away is None else away]
        row = (*losses, losses[1] / losses[0], *aways, aways[1] / aways[0])
        rows.append((how, len(layout.copysets()), *row))
    names = (
        "placement",
        "copysets",
        "loss_independent",
        "loss_correlated",
        "loss_ratio",
        "away_independent",
        "away_correlated",
        "away_ratio",
    )
    return Table({name: [row[index] for row in rows] for index, name in enumerate(names)}, title="The same rates")
