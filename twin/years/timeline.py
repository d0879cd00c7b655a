"""Everything that fails in a site over years, in exact order: what is away and comes back, and what is gone."""

import msgspec
import numpy as np
import numpy.typing as npt

from twin.failures.components import Component
from twin.failures.distributions import scaled
from twin.failures.renewal import NONE, Ints, Outages, renew, union
from twin.failures.shocks import alone_rate_factor, strike
from twin.table import Table
from twin.years.site import Site

KINDS = ("disk", "node", "burst", "switch", "rack", "pdu")
"""Where an outage comes from, in the order in which equal times are listed."""


class Timeline(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """The outages of one site within ``duration_ms``, by kind; starts lie within, ends may lie after it.

    ``by_kind``: of ``KINDS``; component numbers count disks, nodes (also for bursts), racks (also for switches) and
    power units. ``node_alone``: a node's own and its bursts' outages, which may be taken for lost after a while;
    ``node_held``: with its rack, switch or power unit, where one waits; ``node_down``: both, joined.
    """

    duration_ms: int
    by_kind: dict[str, Outages]
    node_alone: Outages
    node_held: Outages
    node_down: Outages

    def events(self) -> Table:
        """Every outage in exact order of start, kind and component, with when it ends. O(n log n)."""
        parts = [self.by_kind[kind] for kind in KINDS]
        rank = np.repeat(np.arange(len(KINDS)), [len(part.component) for part in parts])
        start_ms, end_ms, component = (
            np.concatenate([getattr(part, name) for part in parts]) for name in ("start_ms", "end_ms", "component")
        )
        order = np.lexsort((component, rank, start_ms))
        return Table(
            {
                "start_ms": start_ms[order],
                "end_ms": end_ms[order],
                "kind": np.asarray(KINDS)[rank[order]],
                "component": component[order],
            },
            {"start_ms": "ms", "end_ms": "ms"},
            "Outages in order",
        )


def simulate(site: Site, duration_ms: int, seed: int) -> Timeline:
    """Draw the outages of all components of a site. The same seed gives the same ones, whatever else is in the site.

    Cost: O(components + outages).

    Raises: InputError if more fails than fits into memory, or bursts leave nothing for a node's own failures.
    """
    own, burst = NONE, NONE
    if site.node is not None:
        factor = alone_rate_factor(site.bursts, site.node, site.domains_per_year())
        own = renew(_slower(site.node, factor), site.nodes, duration_ms, seed)
        if site.bursts is not None:
            burst = strike(site.bursts, site.node, site.rack_of, duration_ms, seed)
    by_kind = {
        "disk": _drawn(site.disk, site.disks, duration_ms, seed),
        "node": own,
        "burst": burst,
        "switch": _drawn(site.switch, site.racks, duration_ms, seed),
        "rack": _drawn(site.rack, site.racks, duration_ms, seed),
        "pdu": _drawn(site.pdu, site.pdus, duration_ms, seed),
    }
    held = [
        spread(by_kind["switch"], site.rack_of),
        spread(by_kind["rack"], site.rack_of),
        spread(by_kind["pdu"], site.pdu_of),
    ]
    alone, held_all = union([own, burst]), union(held)
    return Timeline(
        duration_ms=duration_ms,
        by_kind=by_kind,
        node_alone=alone,
        node_held=held_all,
        node_down=union([alone, held_all]),
    )


def _drawn(kind: Component | None, components: int, duration_ms: int, seed: int) -> Outages:
    return NONE if kind is None or not components else renew(kind, components, duration_ms, seed)


def _slower(node: Component, factor: float) -> Component:
    """A component that fails on its own only, so lives longer by that factor."""
    behaviour = msgspec.structs.replace(node.behaviour, up=scaled(node.behaviour.up, factor))
    return msgspec.structs.replace(node, behaviour=behaviour)


def spread(outages: Outages, place_of: Ints) -> Outages:
    """Turn outages of places into outages of all that is in them: int64 ``place_of``, the place of each member."""
    members = np.argsort(place_of, kind="stable")
    ordered = place_of[members]
    first = np.searchsorted(ordered, outages.component)
    counts = np.searchsorted(ordered, outages.component, side="right") - first
    at = expand(first, counts)
    return Outages(members[at].astype(np.int64), np.repeat(outages.start_ms, counts), np.repeat(outages.end_ms, counts))


def expand(first: npt.NDArray[np.integer], counts: npt.NDArray[np.integer]) -> npt.NDArray[np.int64]:
    """Count up from each ``first`` as often as ``counts`` says, one after the other: an int64 array."""
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    return np.asarray(np.arange(total, dtype=np.int64) + np.repeat(first - (ends - counts), counts), dtype=np.int64)
