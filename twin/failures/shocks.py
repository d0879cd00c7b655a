"""Failures of several nodes at once, as an explicit process: shocks that strike a rack, or scattered nodes of a zone.

A shock belongs to a place, not to the site: each rack has its own, and each zone of racks (what shares a rollout, a
network, a row) has its own. How hard it strikes is drawn for the shock, and then each node of the place is struck or
not, for itself. So a node more changes nothing for the others (A. Marshall, I. Olkin: A Multivariate Exponential
Distribution, JASA 62, 1967), and how often one node is struck does not depend on the size of the site.
"""

import math

import msgspec
import numpy as np
import numpy.typing as npt
from scipy import optimize

from core.errors import InputError
from twin.failures.bulk import uniforms
from twin.failures.bursts import WINDOW_S
from twin.failures.components import Component
from twin.failures.distributions import YEAR_H, Exponential, Floats, mean_h, quantile
from twin.failures.published import FORD, FORD_BURST_SHARE, FORD_CELL_NODES, FORD_NODE_MTTF_H, Behaviour
from twin.failures.renewal import HOUR_MS, NONE, Ints, Outages, renew

SCATTERED_MAX = 20
"""Bursts of more than 20 nodes lie in racks (affinity 0.7 and more). Source: Ford et al., OSDI 2010, section 4.3."""


class BurstProcess(msgspec.Struct, frozen=True, kw_only=True):
    """How often shocks strike, and how hard; calibrate one with ``calibrated``.

    ``rack_per_year`` and ``zone_per_year``: shocks a year of one rack and of one zone of ``zone_racks`` racks of
    ``nodes_per_rack`` nodes. A shock is aimed at s nodes with the chance of at least s being (s / 2) ** -``tail``, from
    2 up to the whole rack, or up to 20 scattered nodes of a zone; each node is struck with the chance of s / nodes.
    The nodes go down within ``spread_s`` seconds of each other.
    """

    nodes_per_rack: int
    zone_racks: int
    rack_per_year: float
    zone_per_year: float
    tail: float
    spread_s: float
    source: str

    def struck_per_year(self) -> float:
        """How often a year one node is struck."""
        return self.rack_per_year * self.rack_mean() + self.zone_per_year * self.zone_mean()

    def rack_mean(self) -> float:
        """The chance that a shock of its rack strikes a node."""
        return _mean(self.nodes_per_rack, self.nodes_per_rack, self.tail)

    def zone_mean(self) -> float:
        """The chance that a shock of its zone strikes a node."""
        return _mean(self.zone_nodes, SCATTERED_MAX, self.tail)

    @property
    def zone_nodes(self) -> int:
        """How many nodes a full zone has."""
        return self.nodes_per_rack * self.zone_racks


def aims(most: int, tail: float) -> tuple[npt.NDArray[np.int64], Floats]:
    """Sizes that shocks aim at, 2 to ``most``, and their chances: a power law cut off at ``most``."""
    sizes = np.arange(2, max(2, most) + 1)
    above = (sizes / 2.0) ** -tail
    return sizes, above - np.append(above[1:], 0.0)


def _mean(nodes: int, most: int, tail: float) -> float:
    sizes, chances = aims(min(nodes, most), tail)
    return float((chances * np.minimum(1.0, sizes / nodes)).sum())


def _several(nodes: int, most: int, tail: float, site_nodes: int) -> float:
    """Of the nodes struck by a shock, the share that is not struck alone, in a site whose last place may be smaller."""
    sizes, chances = aims(min(nodes, most), tail)
    hit = np.minimum(1.0, sizes / nodes)
    weight = chances * hit / float((chances * hit).sum())
    full, rest = divmod(site_nodes, nodes)
    whole = full * nodes * (1.0 - (1.0 - hit) ** (nodes - 1))
    partly = rest * (1.0 - (1.0 - hit) ** (max(rest, 1) - 1))
    return float((weight * (whole + partly)).sum() / site_nodes)


def calibrated(
    nodes: int = FORD_CELL_NODES,
    *,
    share: float = FORD_BURST_SHARE,
    node_mttf_h: float = FORD_NODE_MTTF_H,
    nodes_per_rack: int = 40,
    zone_racks: int = 8,
    domains_per_year: float = 0.0,
    tail: float = 1.0,
    rack_part: float = 0.7,
    spread_s: float = 30.0,
) -> BurstProcess:
    """Choose the rates so that ``share`` of the node failures of a site of ``nodes`` lies in bursts as one counts them.

    Counted (``bursts``) are also failures that fall together by chance, so a larger site needs fewer shocks for the
    same share; the default is the size of cell at which the paper's chance of that holds. ``domains_per_year``: how
    often a node goes down with its whole rack or power distribution unit, which are bursts too. ``rack_part``: of the
    nodes struck, the share struck by shocks of a rack, not of a zone.

    Source of the share: Ford et al., OSDI 2010. Assumed (ours): ``tail``, ``rack_part``, ``zone_racks``, ``spread_s``,
    which the paper only bounds by its rack affinities.

    Raises: InputError if the share cannot be had: chance alone gives more, or the domains do.
    """
    rate = YEAR_H / node_mttf_h
    zone_nodes = nodes_per_rack * zone_racks
    means = _mean(nodes_per_rack, nodes_per_rack, tail), _mean(zone_nodes, SCATTERED_MAX, tail)
    in_rack = _several(nodes_per_rack, nodes_per_rack, tail, nodes)
    several = rack_part * in_rack + (1.0 - rack_part) * _several(zone_nodes, SCATTERED_MAX, tail, nodes)

    def process(struck: float) -> BurstProcess:
        return BurstProcess(
            nodes_per_rack=nodes_per_rack,
            zone_racks=zone_racks,
            rack_per_year=struck * rack_part / means[0],
            zone_per_year=struck * (1.0 - rack_part) / means[1],
            tail=tail,
            spread_s=spread_s,
            source=f"{share:.0%} of node failures in bursts ({FORD}); their sizes are assumed",
        )

    def excess(struck: float) -> float:
        made, alone = process(struck), max(0.0, rate - struck - domains_per_year)
        shocks = nodes * (made.rack_per_year / nodes_per_rack + made.zone_per_year / zone_nodes)
        single = alone + struck * (1.0 - several)
        window_years = 2.0 * WINDOW_S / 3_600.0 / YEAR_H
        spread_years = spread_s / 3_600.0 / YEAR_H
        quiet = math.exp(-window_years * (nodes * alone + shocks) - spread_years * shocks)
        return (rate - single * quiet) / rate - share

    if not 0 <= domains_per_year < rate or excess(0.0) > 0 or excess(rate - domains_per_year) < 0:
        given = f"bursts: a share of {share:.2f} of node failures; chance, racks and power alone give"
        raise InputError(
            [f"{given} {excess(0.0) + share:.2f}; allowed: more than that and below {several:.2f}, or none"]
        )
    return process(float(optimize.brentq(excess, 0.0, rate - domains_per_year, xtol=1e-12)))


def strike(of: BurstProcess, down: Component, rack_of: Ints, duration_ms: int, seed: int) -> Outages:
    """Draw the outages that shocks cause: int64 ``rack_of``, the rack of each node, as numbers from 0.

    Each node is down as long as ``down.behaviour.down`` says, drawn for itself. Outages of a node may overlap (join
    them with ``renewal.union``). Cost: O(nodes x most shocks of one rack + outages).
    """
    if not len(rack_of):
        return NONE
    zone_of = rack_of // of.zone_racks
    parts = [
        _struck(of, "rack", rack_of, of.nodes_per_rack, of.nodes_per_rack, down, duration_ms, seed),
        _struck(of, "zone", zone_of, of.zone_nodes, SCATTERED_MAX, down, duration_ms, seed),
    ]
    component, start_ms, end_ms = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("component", "start_ms", "end_ms")
    )
    order = np.lexsort((end_ms, start_ms, component))
    return Outages(component[order], start_ms[order], end_ms[order])


def _struck(
    of: BurstProcess, place: str, place_of: Ints, size: int, most: int, down: Component, duration_ms: int, seed: int
) -> Outages:
    places = int(place_of.max()) + 1
    per_year = of.rack_per_year if place == "rack" else of.zone_per_year
    if per_year <= 0:
        return NONE
    moment = Exponential(1.0 / HOUR_MS)  # a shock has no length: its nodes' outages have
    arrivals = Component(
        kind=down.kind, behaviour=Behaviour(up=Exponential(YEAR_H / per_year), down=moment, source=of.source)
    )
    shocks = renew(arrivals, places, duration_ms, _sub_seed(seed, place))
    number = np.arange(len(shocks.component)) - np.searchsorted(shocks.component, shocks.component)
    sizes, chances = aims(min(size, most), of.tail)
    found: list[tuple[Ints, Ints, Ints]] = []
    for draw in range(int(number.max(initial=-1)) + 1):
        at = np.full(places, -1, dtype=np.int64)
        mine = number == draw
        at[shocks.component[mine]] = shocks.start_ms[mine]
        aim = sizes[
            np.searchsorted(np.cumsum(chances), uniforms(seed, f"{place}.aim", draw, places)).clip(max=len(sizes) - 1)
        ]
        hit = uniforms(seed, f"{place}.hit", draw, len(place_of)) < (aim / size)[place_of]
        nodes = np.flatnonzero(hit & (at[place_of] >= 0))
        if len(nodes):
            count = int(nodes[-1]) + 1
            late_s = uniforms(seed, f"{place}.late", draw, count)[nodes] * of.spread_s
            length_h = quantile(down.behaviour.down, uniforms(seed, f"{place}.down", draw, count)[nodes])
            start_ms = at[place_of[nodes]] + np.rint(late_s * 1_000.0).astype(np.int64)
            found.append((nodes, start_ms, start_ms + np.maximum(1, np.rint(length_h * HOUR_MS)).astype(np.int64)))
    if not found:
        return NONE
    component, start_ms, end_ms = (np.concatenate([part[i] for part in found]) for i in range(3))
    inside = start_ms < duration_ms
    return Outages(component[inside], start_ms[inside], end_ms[inside])


def _sub_seed(seed: int, place: str) -> int:
    """A seed of its own for the arrivals of shocks, so that they share no stream with a kind of component."""
    return int.from_bytes(f"{place}".encode(), "little") << 64 | (seed & (1 << 64) - 1)


def alone_rate_factor(of: BurstProcess | None, node: Component, domains_per_year: float) -> float:
    """How much longer a node lives that fails only on its own: shocks, racks and power take their part of the rate.

    Raises: InputError if they take all of it.
    """
    rate = YEAR_H / mean_h(node.behaviour.up)
    alone = rate - domains_per_year - (of.struck_per_year() if of is not None else 0.0)
    if alone <= 0:
        raise InputError([f"node: {rate:.3g} failures a year; bursts, racks and power units alone are as many"])
    return rate / alone
