"""What a plan holds: the cluster at each size, what each step brings, and the tables of it."""

from collections.abc import Sequence
from typing import Literal

import msgspec

from twin.capacity.assumptions import Assumptions
from twin.capacity.cluster import Cluster
from twin.capacity.fill import Placements
from twin.capacity.losing import LossReport
from twin.capacity.machines import Machines
from twin.capacity.movement import Movement
from twin.capacity.recovery import Recovery
from twin.capacity.usable import Usable
from twin.table import Table

SourceKind = Literal["rack", "ceph"]


def kind_of(cluster: Cluster) -> SourceKind:
    """Whether a cluster comes from a rack file or from Ceph's own JSON."""
    return "rack" if "rack" in cluster.files else "ceph"


class Moment(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """A cluster at one size, with all its PGs where CRUSH wants them.

    ``max_avail``: Ceph's own figure by pool name, computed; ``full_in_days``: until users' growth has taken what is
    left (None: no growth was given).
    """

    cluster: Cluster
    placed: Placements
    nodes: int
    osd_pgs: dict[int, int]
    usable: Usable
    machines: Machines
    max_avail: dict[str, int]
    full_in_days: float | None


class Marginal(msgspec.Struct, frozen=True, kw_only=True):
    """What the step brings over the one before: user bytes, VMs, money and power for ``nodes`` more nodes.

    None where it cannot be said (no cores known, no price given).
    """

    nodes: int
    bytes: int
    vms: int | None
    raw_bytes: int
    price: float | None
    watts: float | None
    price_per_tb: float | None
    price_per_vm: float | None


class Growth(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """One step of growth: the cluster then, what moves on the way from the step before, and what it brings."""

    moment: Moment
    movement: Movement
    recovery: Recovery
    joined: tuple[str, ...]
    from_nodes: int
    shards_moved: int
    shards_ideal: int
    bytes_moved: int
    bytes_ideal: int
    pgs_at_min_size: int
    pgs_under_min_size: int
    recovery_ms: int
    recovery_low_ms: int
    recovery_high_ms: int
    marginal: Marginal


_BYTE_UNITS = (("PB", 1e15), ("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("bytes", 1.0))


class Plan(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """What `twin plan` answers. ``growth``: one record for each step; ``loss``: of the worst domain, if asked for."""

    name: str
    source: str
    currency: str
    assumptions: Assumptions
    survive: str
    now: Moment
    growth: tuple[Growth, ...]
    loss: LossReport | None
    warnings: tuple[str, ...]

    @property
    def waterfall(self) -> Table:
        """From raw to usable, step by step: of bytes, then of cores, memory and VMs where these are known."""
        steps = (*self.now.usable.steps, *self.now.machines.steps)
        columns = {
            name: [getattr(step, name) for step in steps]
            for name in ("name", "unit", "before", "taken", "after", "why", "source")
        }
        return Table(columns, title=f"From raw to usable: {self.name}")

    @property
    def steps(self) -> Table:
        """The cluster now and after each step of growth, one row for each size."""
        moments = [self.now, *(step.moment for step in self.growth)]
        rows: list[Growth | None] = [None, *self.growth]
        nan = float("nan")
        no_vms = any(moment.machines.vms is None for moment in moments)
        columns: dict[str, Sequence[object]] = {
            "nodes": [moment.nodes for moment in moments],
            "raw": [moment.usable.raw_bytes for moment in moments],
            "usable": [moment.usable.usable_bytes for moment in moments],
            "free": [moment.usable.free_bytes for moment in moments],
            "vms": [-1 if no_vms else moment.machines.vms for moment in moments],
            "shards_moved": [row.shards_moved if row else 0 for row in rows],
            "shards_ideal": [row.shards_ideal if row else 0 for row in rows],
            "bytes_moved": [row.bytes_moved if row else 0 for row in rows],
            "recovery": [row.recovery_ms if row else 0 for row in rows],
            "more_usable": [row.marginal.bytes if row else 0 for row in rows],
            "price": [row.marginal.price if row and row.marginal.price is not None else nan for row in rows],
        }
        if no_vms:
            del columns["vms"]
        units = dict.fromkeys(("raw", "usable", "free", "bytes_moved", "more_usable"), "bytes")
        units |= {"recovery": "ms", "price": self.currency}
        return Table(columns, units, title=f"Growth: {self.name}")

    @property
    def summary(self) -> Table:
        """The columns of ``steps`` that a person looks for first, in units that need no counting of digits."""
        rows = self.steps
        large = max(rows["raw"].tolist(), default=0)
        unit, one = next(((unit, one) for unit, one in _BYTE_UNITS if large >= 10 * one), _BYTE_UNITS[-1])
        sizes = ("raw", "usable", "free", "more_usable")
        columns: dict[str, Sequence[object]] = {
            "nodes": rows["nodes"].tolist(),
            **{name: [value / one for value in rows[name].tolist()] for name in sizes},
            **({"vms": rows["vms"].tolist()} if "vms" in rows else {}),
            "moves": [value / one for value in rows["bytes_moved"].tolist()],
            "takes": [value / 3_600_000 for value in rows["recovery"].tolist()],
        }
        units = dict.fromkeys((*sizes, "moves"), unit) | {"takes": "hours"}
        if any(price == price for price in rows["price"].tolist()):  # NaN, which equals nothing: not known
            columns["price"] = rows["price"].tolist()
            units["price"] = self.currency
        return Table(columns, units, title=f"Growth: {self.name}")

    @property
    def osds(self) -> Table:
        """Every OSD now: host, kind, size, use, and its PGs; and its PGs after each step of growth."""
        last = self.growth[-1].moment if self.growth else self.now
        osds = last.cluster.osds
        used = {osd.id: osd.used_bytes for osd in self.now.cluster.osds}
        columns: dict[str, Sequence[object]] = {
            "osd": [osd.id for osd in osds],
            "host": [osd.host for osd in osds],
            "kind": [osd.kind for osd in osds],
            "size": [osd.size_bytes for osd in osds],
            "used": [used.get(osd.id, 0) for osd in osds],
            "pgs": [self.now.osd_pgs.get(osd.id, 0) for osd in osds],
        }
        for step in self.growth:
            columns[f"pgs_{step.moment.nodes}_nodes"] = [step.moment.osd_pgs.get(osd.id, 0) for osd in osds]
        return Table(columns, {"size": "bytes", "used": "bytes"}, title=f"OSDs: {self.name}")
