"""``site_years``: a big site's years of failures in one call, from what fails to what users notice."""

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np

from core.errors import InputError
from core.ids import ServiceName, VolumeName
from core.specs import ServiceSpec
from twin.failures.bursts import BurstShares, burst_shares
from twin.failures.components import NODE, Component
from twin.failures.distributions import YEAR_H
from twin.failures.renewal import HOUR_MS, expected_per_year
from twin.table import Table
from twin.years.layout import groups_for, scatter
from twin.years.measured import SILENT
from twin.years.singletons import Failover, SingletonYears, singleton_years
from twin.years.site import Site, regular
from twin.years.source import site_of
from twin.years.storage import Pool, StorageYears, storage_years
from twin.years.timeline import KINDS, Timeline, simulate

YEARS_MAX = 100.0
SERVICES = (
    ServiceSpec(name=ServiceName("database"), run="singleton", volume=VolumeName("database")),
    ServiceSpec(name=ServiceName("scheduler"), run="singleton"),
)
"""Two singletons without demands, where no catalog says which there are."""


class SiteYears(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """The years of one site. ``timeline`` holds every outage, ``storage`` and ``singletons`` what it did; else Tables.

    ``bursts``: how the node failures come together, counted as Ford et al. count them.
    """

    site: Site
    years: float
    seed: int
    timeline: Timeline
    bursts: BurstShares
    storage: StorageYears | None
    singletons: tuple[SingletonYears, ...]
    source: str

    @property
    def title(self) -> str:
        """What it is, in a few words."""
        return f"{self.years:g} year{'' if self.years == 1 else 's'} of {self.source}"

    @property
    def components(self) -> Table:
        """Failures and time down by kind of component, beside what the behaviour says in the long run."""
        return _components(self)

    @property
    def events(self) -> Table:
        """Every outage in exact order."""
        return self.timeline.events()

    @property
    def daily(self) -> Table:
        """For each day: nodes and disks that fail, and placement groups that are degraded or do not serve."""
        return _daily(self)

    @property
    def services(self) -> Table:
        """Availability of each singleton."""
        duration_ms = self.timeline.duration_ms
        return Table(
            {
                "service": [one.service for one in self.singletons],
                "failovers": [one.failovers for one in self.singletons],
                "waited": [one.waited for one in self.singletons],
                "away_s": [one.away_ms / 1_000 for one in self.singletons],
                "longest_s": [one.longest_ms / 1_000 for one in self.singletons],
                "availability": [1.0 - one.away_ms / duration_ms for one in self.singletons],
            },
            {"away_s": "s", "longest_s": "s"},
            "Singletons",
        )

    @property
    def states(self) -> Table:
        """The placement groups' time by state: hours of one group, and shares."""
        return _states(self)


def site_years(
    source: Path | str | None = None,
    *,
    nodes: int = 1_000,
    disks: int = 10,
    years: float = 1.0,
    seed: int = 1,
    pool: str | None = None,
    size: int = 3,
    min_size: int = 2,
    needed: int = 1,
    disk: Component | None = None,
    node: Component = NODE,
    correlated: bool = True,
    services: Sequence[ServiceSpec] = SERVICES,
    failover: Failover = SILENT,
    progress: Callable[[str], None] | None = None,
) -> SiteYears:
    """Simulate ``years`` of a rack file or a real Ceph cluster, or else of ``nodes`` equal nodes of ``disks`` disks.

    ``source``: a rack file or a folder of Ceph JSON, whose ``pool`` (by default the one that holds most) is followed as
    Ceph places it. Without one, a pool is laid out over all disks at random, racks or nodes apart, with ``size`` shards
    of which ``needed`` restore the rest. ``correlated``: with bursts, racks and power units.

    Raises: InputError if a number is out of its range, more fails than fits into memory, or the source is not right.
    """
    if source is not None:
        found = site_of(Path(source), pool, disk_component=disk, node=node, correlated=correlated)
        return follow(found.site, found.pool, found.words, years, seed, services, failover, progress)
    if not 1 <= needed <= min_size <= size:
        said = f"size {size}, min_size {min_size}, needed {needed}"
        raise InputError([f"{said}: allowed: 1 <= needed <= min_size <= size"])
    site = regular(nodes, disks, disk_component=disk, node=node, correlated=correlated)
    laid = None
    if site.disks >= size:
        placement = scatter(groups_for(site.disks, size), size, site.disk_node, site.rack_of, seed)
        laid = Pool(placement=placement, min_size=min_size, needed=needed)
    words = f"{site.nodes:,} node{'s' * (nodes > 1)}, {site.disks:,} disk{'s' * (site.disks > 1)}"
    return follow(site, laid, words, years, seed, services, failover, progress)


def follow(
    site: Site,
    pool: Pool | None,
    source: str,
    years: float,
    seed: int = 1,
    services: Sequence[ServiceSpec] = SERVICES,
    failover: Failover = SILENT,
    progress: Callable[[str], None] | None = None,
) -> SiteYears:
    """Simulate ``years`` of a site and a pool that are at hand. Raises: InputError as ``site_years``."""
    if not 0 < years <= YEARS_MAX:
        raise InputError([f"years: {years}: allowed: above 0, up to {YEARS_MAX:g}"])
    tell = progress or (lambda _: None)
    duration_ms = round(years * YEAR_H * HOUR_MS)
    tell("components")
    timeline = simulate(site, duration_ms, seed)
    tell("placement groups")
    storage = storage_years(site, timeline, pool) if pool is not None else None
    tell("singletons")
    return SiteYears(
        site=site,
        years=years,
        seed=seed,
        timeline=timeline,
        bursts=burst_shares(timeline.node_down.start_ms, timeline.node_down.component),
        storage=storage,
        singletons=tuple(singleton_years(site, timeline, services, failover, seed)),
        source=source,
    )


def _components(of: SiteYears) -> Table:
    site, timeline = of.site, of.timeline
    kinds = {
        "disk": (site.disks, site.disk),
        "node": (site.nodes, site.node),
        "switch": (site.racks, site.switch),
        "rack": (site.racks, site.rack),
        "pdu": (site.pdus, site.pdu),
    }
    rows: list[tuple[object, ...]] = []
    for kind, (count, component) in kinds.items():
        if component is None or not count:
            continue
        outages = timeline.node_down if kind == "node" else timeline.by_kind[kind]
        down_ms = int((np.minimum(outages.end_ms, timeline.duration_ms) - outages.start_ms).sum())
        rate, expected = len(outages.component) / count / of.years, expected_per_year(component, of.years)
        up = 1.0 - down_ms / (count * timeline.duration_ms)
        rows.append((kind, count, len(outages.component), rate, expected, up, component.behaviour.source))
    names = ("kind", "components", "failures", "per_year", "per_year_expected", "availability", "source")
    return Table(
        {name: [row[i] for row in rows] for i, name in enumerate(names)},
        {"per_year": "1/a each", "per_year_expected": "1/a each"},
        "Components",
    )


def _daily(of: SiteYears) -> Table:
    timeline = of.timeline
    bin_ms = of.storage.bin_ms if of.storage is not None else 86_400_000
    bins = -(-timeline.duration_ms // bin_ms)

    def counted(start_ms: "np.ndarray[tuple[int], np.dtype[np.int64]]") -> "np.ndarray[tuple[int], np.dtype[np.intp]]":
        return np.bincount(start_ms // bin_ms, minlength=bins)

    columns: dict[str, object] = {
        "day": np.arange(bins) * (bin_ms // 86_400_000),
        "node_failures": counted(timeline.node_down.start_ms),
        **{f"{kind}_outages": counted(timeline.by_kind[kind].start_ms) for kind in KINDS if kind != "node"},
    }
    if of.storage is not None:
        columns["groups_degraded"] = of.storage.degraded_daily
        columns["groups_inactive"] = of.storage.inactive_daily
    return Table({name: np.asarray(values) for name, values in columns.items()}, {"day": "d"}, "Day by day")


def _states(of: SiteYears) -> Table:
    held = of.storage
    if held is None:
        return Table({"state": [], "hours": [], "share": []}, {"hours": "h"}, "Placement groups")
    times = {
        "clean": held.clean_ms,
        "degraded": held.degraded_ms,
        "under min_size": held.inactive_ms,
        "lost": held.lost_total_ms,
    }
    whole = held.groups * held.duration_ms
    return Table(
        {
            "state": list(times),
            "hours": [ms / HOUR_MS for ms in times.values()],
            "share": [ms / whole for ms in times.values()],
        },
        {"hours": "h"},
        "Placement groups by state (hours of one group)",
    )
