"""A pool as it is really placed: which disks hold each placement group, and what each disk hangs on."""

from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np
import numpy.typing as npt
from scipy import sparse

from core.errors import InputError
from twin.crush.map import NONE

Whole = npt.NDArray[np.int32]
Unit = Literal["disk", "node", "pdu", "rack"]
UNITS: tuple[Unit, ...] = ("disk", "node", "pdu", "rack")


class Layout(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """Placement groups on disks, disks in nodes, nodes behind PDUs and in racks; all by index.

    ``shards``: int32, shape (pgs, size), disks of each placement group, -1 where one is missing. ``tolerance``: how
    many shards may be lost without loss of data. ``min_size``: how many must be there to serve. ``node_of``: int32,
    shape (disks,). ``pdu_of``, ``rack_of``: int32, shape (nodes,); -1 for a node that no single PDU (or rack) can take
    down. ``names``: of disks, nodes, PDUs and racks.
    """

    name: str
    shards: Whole
    tolerance: int
    min_size: int
    node_of: Whole
    pdu_of: Whole
    rack_of: Whole
    names: dict[Unit, tuple[str, ...]] = {}

    @property
    def disks(self) -> int:
        """How many disks there are."""
        return len(self.node_of)

    @property
    def nodes(self) -> int:
        """How many nodes there are."""
        return len(self.rack_of)

    @property
    def pgs(self) -> int:
        """How many placement groups there are."""
        return len(self.shards)

    def unit_of(self, unit: Unit) -> Whole:
        """Return the unit that each disk hangs on: int32, shape (disks,), -1 where there is none."""
        match unit:
            case "disk":
                return np.arange(self.disks, dtype=np.int32)
            case "node":
                return self.node_of
            case "pdu":
                return self.pdu_of[self.node_of]
            case "rack":
                return self.rack_of[self.node_of]

    def units(self, unit: Unit) -> int:
        """How many units of that kind hold disks."""
        known = self.unit_of(unit)
        return len(np.unique(known[known >= 0]))

    def served(self) -> "Layout":
        """Return the layout without the groups that have too few shards to hold data at all.

        Raises: InputError if that leaves none.
        """
        whole = (self.shards < 0).sum(axis=1) <= self.tolerance
        if not whole.any():
            raise InputError([f"pool {self.name}: no placement group has the disks it needs; needed: at least one"])
        return self if whole.all() else msgspec.structs.replace(self, shards=self.shards[whole])

    def copysets(self) -> Whole:
        """Return the distinct sets of disks that hold a group: int32, shape (copysets, size), rows sorted, -1 first."""
        return unique_rows(np.sort(self.shards, axis=1))

    def incidence(self, unit: Unit = "disk") -> "sparse.csr_array":
        """Return how many shards of each group hang on each unit: sparse int32, shape (pgs, units of the numbering)."""
        known = self.unit_of(unit)
        rows, columns = np.nonzero(self.shards >= 0)
        on = known[self.shards[rows, columns]]
        there = on >= 0
        width = int(known.max(initial=-1)) + 1
        ones = np.ones(int(there.sum()), dtype=np.int32)
        return sparse.csr_array((ones, (rows[there], on[there])), shape=(self.pgs, width))

    def scatter_width(self) -> Whole:
        """Return with how many other disks each disk shares a group: int32, shape (disks,)."""
        once = (self.incidence() > 0).astype(np.int32)
        shared = (once.T @ once).tocsr()
        held = np.asarray(once.sum(axis=0)).ravel() > 0
        return np.asarray(np.diff(shared.indptr) - held, dtype=np.int32)


def unique_rows(rows: Whole) -> Whole:
    """Return the distinct rows, in order: numbers from -1, int32, shape (rows, columns).

    Rows are compared as one number each where that fits, which is many times faster.
    """
    width = int(rows.max(initial=0)) + 2
    if rows.shape[1] * np.log2(width) >= 62:
        return np.unique(rows, axis=0)
    powers = width ** np.arange(rows.shape[1] - 1, -1, -1, dtype=np.int64)
    _, first = np.unique((rows.astype(np.int64) + 1) @ powers, return_index=True)
    return rows[first]


def make_layout(
    up: npt.NDArray[np.integer],
    nodes: Sequence[str],
    racks: Sequence[str | None],
    pdus: Sequence[str | None],
    node_of_osd: dict[int, str],
    *,
    tolerance: int,
    min_size: int,
    name: str = "pool",
) -> Layout:
    """Make a layout of a placement by OSD ids.

    ``up``: shape (pgs, size), OSD ids, ``NONE`` or -1 for a hole. ``racks`` and ``pdus``: one for each of ``nodes``.
    ``node_of_osd``: all OSDs that exist, by id. Raises: InputError if a group lies on an OSD without a node.
    """
    ids = sorted(node_of_osd)
    index = np.full(max([*ids, int(up[(up >= 0) & (up != NONE)].max(initial=0))]) + 1, -1, dtype=np.int32)
    index[ids] = np.arange(len(ids), dtype=np.int32)
    there = (up >= 0) & (up != NONE)
    shards = np.full(up.shape, -1, dtype=np.int32)
    shards[there] = index[up[there]]
    if (homeless := np.unique(up[there & (shards < 0)])).size:
        raise InputError([f"{name}: placement groups lie on osd.{homeless[0]}, which is in no node"])
    place = {node: number for number, node in enumerate(nodes)}
    rack_names = sorted({rack for rack in racks if rack is not None})
    pdu_names = sorted({pdu for pdu in pdus if pdu is not None})
    return Layout(
        name=name,
        shards=shards,
        tolerance=tolerance,
        min_size=min_size,
        node_of=np.array([place[node_of_osd[osd]] for osd in ids], dtype=np.int32),
        pdu_of=_numbers(pdus, pdu_names),
        rack_of=_numbers(racks, rack_names),
        names={
            "disk": tuple(f"osd.{osd}" for osd in ids),
            "node": tuple(nodes),
            "pdu": tuple(pdu_names),
            "rack": tuple(rack_names),
        },
    )


def _numbers(of: Sequence[str | None], names: list[str]) -> Whole:
    number = {name: index for index, name in enumerate(names)}
    return np.array([-1 if name is None else number[name] for name in of], dtype=np.int32)


def synthetic(
    copysets: npt.NDArray[np.integer], nodes: int, *, tolerance: int, nodes_per_rack: int, name: str
) -> Layout:
    """Make a layout with one disk in each node out of copysets of nodes, shape (pgs, size)."""
    order = np.arange(nodes, dtype=np.int32)
    return Layout(
        name=name,
        shards=copysets.astype(np.int32),
        tolerance=tolerance,
        min_size=max(1, copysets.shape[1] - tolerance // 2 - tolerance % 2),
        node_of=order,
        pdu_of=np.full(nodes, -1, dtype=np.int32),
        rack_of=order // nodes_per_rack,
    )
