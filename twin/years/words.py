"""Years of a site as text and as JSON."""

from collections.abc import Mapping

from formats.paint import Paint
from twin.years.site_years import SiteYears
from twin.years.storage import StorageYears

_HOUR_MS = 3_600_000


def to_text(of: SiteYears, paint: Paint) -> str:
    """Lay the years out for a terminal: what failed, what it did to storage, what users noticed."""
    lines = [paint.strong(f"{of.title}, seed {of.seed}"), ""]
    components = of.components
    largest = f"at most {of.bursts.largest:,} nodes within 120 s of each other"
    lines += [
        f"  {'component':<9} {'number':>9} {'failures':>9} {'a year, each':>13} {'expected':>9} {'availability':>13}",
        *(
            f"  {row['kind']:<9} {row['components']:>9,} {row['failures']:>9,} {row['per_year']:>13.4f} "
            f"{row['per_year_expected']:>9.4f} {row['availability']:>13.6f}"
            for row in components.rows
        ),
        "",
        f"  bursts      {of.bursts.share_two_or_more:.1%} of node failures together with another node's; {largest}",
    ]
    if of.storage is not None:
        lines += ["", *_storage(of.storage)]
    lines += [""]
    for row in of.services.rows:
        lines.append(
            f"  {row['service']:<11} available {row['availability']:.6%}: {row['failovers']:,} failovers, away "
            f"{row['away_s']:,.0f} s in all, {row['longest_s']:,.0f} s at most"
        )
    return "\n".join(lines) + "\n"


def _storage(of: StorageYears) -> list[str]:
    whole = of.groups * of.duration_ms
    states = (
        ("clean", of.clean_ms, "all copies up"),
        ("degraded", of.degraded_ms, "some away, but it serves"),
        ("under min", of.inactive_ms, f"{of.inactive_groups:,} of {of.groups:,} groups stood still at some time"),
        ("lost", of.lost_total_ms, f"{len(of.lost_groups):,} groups lost their data"),
    )
    lines = [f"  {name:<11} {ms / whole:>12.6%} of the groups' time; {why}" for name, ms, why in states]
    lines.append(
        f"  stood still {of.any_inactive_ms / _HOUR_MS:>10,.1f} h with at least one group under min_size; "
        f"the longest {of.longest_inactive_ms / _HOUR_MS:,.1f} h"
    )
    lines.append(
        f"  made again  {of.rebuilt_shards:>10,} copies of groups, because their disk failed or was away too long"
    )
    return lines


def to_json(of: SiteYears) -> Mapping[str, object]:
    """All figures but the single outages; times in milliseconds, ratios in [0, 1]."""
    held = of.storage
    storage = held and {
        "groups": held.groups,
        "clean_ms": held.clean_ms,
        "degraded_ms": held.degraded_ms,
        "inactive_ms": held.inactive_ms,
        "lost_ms": held.lost_total_ms,
        "any_inactive_ms": held.any_inactive_ms,
        "longest_inactive_ms": held.longest_inactive_ms,
        "inactive_groups": held.inactive_groups,
        "inactive_spans": held.inactive_spans,
        "lost_groups": held.lost_groups.tolist(),
        "lost_at_ms": held.lost_ms.tolist(),
        "rebuilt_shards": held.rebuilt_shards,
    }
    return {
        "source": of.source,
        "nodes": of.site.nodes,
        "disks": of.site.disks,
        "years": of.years,
        "seed": of.seed,
        "duration_ms": of.timeline.duration_ms,
        "components": of.components.rows,
        "bursts": of.bursts,
        "storage": storage,
        "singletons": of.services.rows,
    }
