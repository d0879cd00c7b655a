"""The answer of ``twin durability`` in words, and as one JSON object."""

import math

import msgspec

from formats.paint import Paint
from twin.durability.assess import VARIANTS, Durability, PoolLoss
from twin.durability.durations import mean_hours
from twin.durability.estimate import Estimate
from twin.durability.layout import UNITS
from twin.durability.markov import Code

SEE = "docs/durability.md says how each figure is found, and what it does not cover"


def to_text(found: Durability, paint: Paint) -> str:
    """Lay the answer out for a terminal."""
    lines = [
        paint.strong(f"Durability of {found.name}") + f", {spelled(found.years)}",
    ]
    lines += [f"warning: {warning}" for warning in found.warnings]
    for pool in found.pools:
        lines += ["", *_pool(pool, found, paint)]
    lines += ["", "What the lines mean:"]
    lines += [f"  {name:<12} {VARIANTS[name]}" for name in found.pools[0].behaviours]
    return "\n".join([*lines, SEE, ""])


def _pool(pool: PoolLoss, found: Durability, paint: Paint) -> list[str]:
    layout = pool.layout
    size = layout.shards.shape[1]
    after = hours_text(mean_hours(pool.recovery))
    lines = [
        paint.strong(f"Pool {layout.name}")
        + f": {layout.pgs:,} PGs, {Code(shards=size, tolerance=layout.tolerance).name}, min_size {layout.min_size};"
        f" {layout.disks:,} disks in {layout.nodes:,} nodes; {pool.copysets:,} copysets, scatter width"
        f" {pool.scatter_width:.1f}",
        f"  a lost disk's copies are all made again after {after} ({pool.recovery_source})",
        f"  chance to lose data in {spelled(found.years)}",
    ]
    for one in pool.outcomes:
        figure = one.loss.probability
        lines.append(f"    {one.variant:<12} {figure.text}; effective sample size {figure.effective:,.0f}")
    lines.append(f"    Markov chain {pool.markov:.3g}: independent disks, summed over the copysets")
    if (ratio := pool.ratio()) is not None:
        lines.append(f"    Counting on independence would be wrong by a factor of {ratio:,.3g}.")
    lines.append("  share of time below min_size: of a PG, and of any PG")
    for one in pool.outcomes:
        away = f"{one.below_ratio:.3g} (computed)" if one.below_ratio is not None else one.away.per_group.text
        lines.append(f"    {one.variant:<12} {away}; any: {one.away.any_group.text}")
    lines.append("  chance to lose data if so many are lost for good at once, whichever they are")
    return [*lines, *_at_once(pool)]


def _at_once(pool: PoolLoss) -> list[str]:
    lines: list[str] = []
    for unit in UNITS:
        rows = [row for row in pool.at_once.rows if row["unit"] == unit]
        shown = []
        for row in rows:
            value = row["probability"]
            assert isinstance(value, float)
            shown.append(f"{row['lost']}: {'not converged' if math.isnan(value) else f'{value:.3g}'}")
            if value >= 0.9995:
                break
        if shown:
            lines.append(f"    {unit:<5} {'  '.join(shown)}  (of {rows[0]['units']})")
    return lines


def hours_text(hours: float) -> str:
    """Say a time in the unit that suits it."""
    if hours < 1.0:
        return f"{hours * 60:.3g} min"
    if hours < 72.0:
        return f"{hours:.3g} h"
    return f"{hours / 24:.3g} days" if hours < 17_532.0 else f"{hours / 8_766:.3g} years"


def spelled(years: float) -> str:
    """Say a number of years."""
    return "1 year" if years == 1 else f"{years:g} years"


def to_json(found: Durability) -> bytes:
    """Return one JSON object; a figure that did not converge is null, with the bound that is known."""
    return msgspec.json.encode(
        {
            "name": found.name,
            "source": found.source,
            "years": found.years,
            "bursts": found.bursts,
            "pools": [_pool_json(pool) for pool in found.pools],
            "assumptions": {key: figure.value for key, figure in found.figures.figures.items()},
            "changed": dict(found.figures.changed),
            "warnings": list(found.warnings),
        }
    )


def _pool_json(pool: PoolLoss) -> dict[str, object]:
    layout = pool.layout
    return {
        "pool": layout.name,
        "pgs": layout.pgs,
        "size": layout.shards.shape[1],
        "tolerance": layout.tolerance,
        "min_size": layout.min_size,
        "disks": layout.disks,
        "nodes": layout.nodes,
        "recovery_hours": mean_hours(pool.recovery),
        "recovery_source": pool.recovery_source,
        "copysets": pool.copysets,
        "scatter_width": pool.scatter_width,
        "markov": pool.markov,
        "ratio": pool.ratio(),
        "variants": {
            one.variant: {
                "loss": estimate_json(one.loss.probability),
                "loss_counted": estimate_json(one.loss.counted),
                "below_min_size_computed": one.below_ratio,
                "below_min_size": estimate_json(one.away.per_group),
                "any_below_min_size": estimate_json(one.away.any_group),
            }
            for one in pool.outcomes
        },
        "at_once": pool.at_once.rows,
        "behaviours": {name: msgspec.to_builtins(one) for name, one in pool.behaviours.items()},
    }


def estimate_json(of: Estimate) -> dict[str, object]:
    """Return a figure with its interval and how it was found."""
    return {
        "value": of.value,
        "low": of.low,
        "high": of.high,
        "samples": of.samples,
        "effective_samples": of.effective,
        "method": of.method,
        "converged": of.value is not None,
    }
