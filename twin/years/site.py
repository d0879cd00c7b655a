"""A site as a set of places that fail: nodes in racks, racks behind power units, disks in nodes."""

import msgspec
import numpy as np
import numpy.typing as npt

from core.errors import InputError
from twin.failures.components import NODE, PDU, RACK, Component, disk
from twin.failures.distributions import YEAR_H, mean_h
from twin.failures.published import FORD_CELL_NODES, FORD_NODE_MTTF_H
from twin.failures.renewal import Ints
from twin.failures.shocks import BurstProcess, calibrated

NODES_MAX = 100_000
DISKS_MAX = 1_000_000


class Site(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """What there is, as int64 arrays of numbers from 0, and how each kind of component fails.

    ``rack_of`` and ``pdu_of``: shape (nodes,), the rack and the power unit of each node; ``disk_node``: shape (disks,),
    the node of each disk.
    A kind that is None never fails. ``node`` is what all reasons together do to one node; the shares of its bursts, its
    rack and its power unit are taken off what it does on its own. ``bursts``: see ``twin.failures.shocks``.
    """

    rack_of: Ints
    pdu_of: Ints
    disk_node: Ints
    disk: Component | None
    node: Component | None
    rack: Component | None
    pdu: Component | None
    switch: Component | None
    bursts: BurstProcess | None

    @property
    def nodes(self) -> int:
        """How many nodes there are."""
        return len(self.rack_of)

    @property
    def racks(self) -> int:
        """How many racks there are."""
        return int(self.rack_of.max(initial=-1)) + 1

    @property
    def pdus(self) -> int:
        """How many power units there are."""
        return int(self.pdu_of.max(initial=-1)) + 1

    @property
    def disks(self) -> int:
        """How many disks there are."""
        return len(self.disk_node)

    def domains_per_year(self) -> float:
        """How often a year a node goes down with its rack, its switch or its power unit."""
        kinds = (self.rack, self.switch, self.pdu)
        return sum(YEAR_H / mean_h(kind.behaviour.up) for kind in kinds if kind is not None)


def regular(
    nodes: int,
    disks: int,
    *,
    nodes_per_rack: int = 40,
    racks_per_pdu: int = 20,
    disk_component: Component | None = None,
    node: Component = NODE,
    correlated: bool = True,
) -> Site:
    """A site of ``nodes`` equal nodes of ``disks`` disks, filled rack by rack, with the published behaviour.

    ``correlated``: with bursts, racks and power units; without, nodes fail on their own only, as many as before.

    Raises: InputError if there are none, or more than the program is made for.
    """
    problems = [
        f"{name}: {value}: allowed: 1 to {most}"
        for name, value, most in (
            ("nodes", nodes, NODES_MAX),
            ("disks of all nodes", nodes * disks, DISKS_MAX),
            ("nodes in a rack", nodes_per_rack, NODES_MAX),
            ("racks of a power unit", racks_per_pdu, NODES_MAX),
        )
        if not 1 <= value <= most
    ]
    if problems:
        raise InputError(problems)
    rack_of = np.arange(nodes, dtype=np.int64) // nodes_per_rack
    return placed(
        rack_of,
        rack_of // racks_per_pdu,
        np.repeat(np.arange(nodes, dtype=np.int64), disks),
        nodes_per_rack=nodes_per_rack,
        disk_component=disk_component,
        node=node,
        correlated=correlated,
    )


def placed(
    rack_of: Ints,
    pdu_of: Ints,
    disk_node: Ints,
    *,
    nodes_per_rack: int,
    disk_component: Component | None = None,
    node: Component = NODE,
    correlated: bool = True,
) -> Site:
    """A site of any shape with the published behaviour. A burst process needs racks of two nodes at least.

    Its bursts are those of a cell in which chance alone makes the published share of false ones, whatever the size of
    the site: so they stay the same when a node is added.

    Raises: InputError if nodes fail so rarely that racks and power units alone are more.
    """
    domains = sum(YEAR_H / mean_h(kind.behaviour.up) for kind in (RACK, PDU))
    mttf_h = mean_h(node.behaviour.up)
    bursts = None
    if correlated and nodes_per_rack > 1:
        cell = max(2 * nodes_per_rack, round(FORD_CELL_NODES * mttf_h / FORD_NODE_MTTF_H))
        bursts = calibrated(cell, node_mttf_h=mttf_h, nodes_per_rack=nodes_per_rack, domains_per_year=domains)
    return Site(
        rack_of=rack_of,
        pdu_of=pdu_of,
        disk_node=disk_node,
        disk=disk_component or disk(),
        node=node,
        rack=RACK if correlated else None,
        pdu=PDU if correlated else None,
        switch=None,
        bursts=bursts,
    )


def spans_of(owner: Ints, owners: int) -> npt.NDArray[np.intp]:
    """Where the entries of each owner begin in a sorted array: shape (owners + 1,)."""
    return np.searchsorted(owner, np.arange(owners + 1))
