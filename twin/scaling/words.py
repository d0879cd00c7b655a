"""What bends the curve, in words: which costs grow with the rack, how fast, and at which size they would matter."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from twin.scaling.delivered import YEAR_S
from twin.scaling.rows import Row
from twin.scaling.usl import Usl

if TYPE_CHECKING:
    from twin.scaling.scale import Scaling, Term

GROWS = 0.2
"""A cost whose exponent is surely above this grows with the rack; less is a logarithm, caches, or chance."""
MATTERS = 0.01
"""A share of the rack's capacity that somebody would miss."""
FITS = {
    "every_node_lost_daily": "the same if every node were lost and joined again once a day",
    "changes_by_messages": "losses and joins that a node could follow with one message a second",
    "changes_by_processor": "losses and joins a second that one core of every agent could follow",
    "cold_start_joins": "nodes that join in a second when all are dark at once",
}


def in_words(found: "Scaling") -> tuple[str, ...]:
    """Say what was found, one sentence or two each."""
    return (*_verdict(found), *_growing(found), *_shares(found), *_harsher(found), *_storm(found))


def _verdict(found: "Scaling") -> Iterator[str]:
    usl, last = found.usl, found.rows[-1]
    yield (
        f"{last.nodes:,} nodes deliver {last.delivered:,.2f} node-equivalents at {found.churn_yearly:g} losses a node "
        f"and year, {usl.linear_ratio:.4%} of linear: sigma {_number(usl.sigma)} {_interval(usl.sigma_ci)}, "
        f"kappa {_number(usl.kappa)} {_interval(usl.kappa_ci)}."
    )


def _growing(found: "Scaling") -> Iterator[str]:
    growing = [term for term in found.terms if term.exponent_ci is not None and term.exponent_ci[0] > GROWS]
    if not growing:
        yield "No cost of a node grows with the rack."
    for term in growing:
        ends = f"from {term.smallest:,.4g} to {term.largest:,.4g} {term.unit}"
        yield f"Grows with the rack: {term.name}, as N^{term.exponent:.2f}{_range(term)}, {ends}.{_why(term)}"
    flat = [term.name for term in found.terms if term.exponent_ci is not None and term.exponent_ci[0] <= GROWS]
    if flat:
        yield f"Does not: {', '.join(flat)}."
    broadcast = next((term for term in found.terms if term.name == "watch events per change and node"), None)
    if broadcast is not None and broadcast.largest > MATTERS:
        yield (
            f"Membership is told to all: each change is {broadcast.largest:.2f} watch events for every node. What a "
            "change costs a node is constant, but changes grow with the rack: all this work grows as N squared."
        )


def _why(term: "Term") -> str:
    return " Every agent remembers every member." if term.name == "memory of one agent" else ""


def _shares(found: "Scaling") -> Iterator[str]:
    first, last = found.rows[0], found.rows[-1]
    shares = {share.name: share.ratio for share in last.shares}
    said = ", ".join(f"{name} {ratio:.2g}" for name, ratio in shares.items())
    most = max(shares, key=lambda name: shares[name])
    yield f"Taken off at {last.nodes:,} nodes, as shares of the capacity: {said}; most of it is {most}."
    grown = {share.name: shares[share.name] - share.ratio for share in first.shares}
    worst = max(grown, key=lambda name: grown[name])
    if grown[worst] > 0:
        size = last.nodes * MATTERS / grown[worst]
        yield (
            f"From {first.nodes} to {last.nodes:,} nodes {worst} grew most, by {grown[worst]:.2g} of all; even "
            f"in proportion to the rack it would take {MATTERS:.0%} only at about {size:,.2g} nodes."
        )


def _harsher(found: "Scaling") -> Iterator[str]:
    last = found.rows[-1]
    if last.churn_us > 0:
        per_s, needed = 1e6 / last.churn_us, found.churn_yearly * last.nodes / YEAR_S
        yield (
            f"One core of every agent could follow {per_s:,.0f} losses and joins a second; the stated churn of "
            f"{last.nodes:,} nodes is {needed:.2g} a second, {per_s / needed:.1g} times less."
        )
    for name, usl in found.fits.items():
        if name == "bytes_as_placed":
            yield _placed(found, usl)
            continue
        yield f"Harsher, {FITS[name]}: sigma {_number(usl.sigma)}, kappa {_number(usl.kappa)}{_meaning(usl)}."


def _meaning(usl: Usl) -> str:
    if usl.linear_ratio < 0.1:
        return f"; it stops growing, {usl.linear_ratio:.1%} of linear: every agent takes part in every change"
    return f"; {usl.linear_ratio:.1%} of linear at the largest size"


def _placed(found: "Scaling", usl: Usl) -> str:
    """What CRUSH's chance takes, which has nothing to do with the control plane."""
    each = [row.usable_placed_bytes / row.nodes / 1e12 for row in found.rows if row.usable_placed_bytes]
    return (
        "Bytes that fit before the fullest disk is full, as CRUSH places them without a balancer: "
        f"{each[0]:.2f} TB a node in the smallest rack, {each[-1]:.2f} in the largest, sigma {_number(usl.sigma)}, "
        f"kappa {_number(usl.kappa)}: the more disks, the fuller the fullest."
    )


def _storm(found: "Scaling") -> Iterator[str]:
    rows: list[Row] = [row for row in found.rows if row.cold_start is not None]
    if rows and rows[-1].cold_start is not None:
        cold = rows[-1].cold_start
        yield (
            f"A cold start of {cold.nodes:,} nodes takes {cold.joined_ms / 60_000:.1f} simulated minutes and "
            f"{cold.watch_events:,} watch events with {cold.requests:,} requests to ZooKeeper "
            f"({cold.requests / (cold.joined_ms / 1000):,.0f} a second)."
        )


def _number(value: float) -> str:
    return "0" if value < 1e-12 else f"{value:.2g}"


def _interval(ends: tuple[float, float]) -> str:
    return f"({_number(ends[0])} to {_number(ends[1])})"


def _range(term: "Term") -> str:
    """The interval of an exponent, where more than one seed gave one."""
    low, high = term.exponent_ci or (0.0, 0.0)
    return f" ({low:.2f} to {high:.2f})" if high > low else ""
