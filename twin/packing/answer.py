"""One question answered: how much of a mix fits on these hosts, by which policy, how far from the bound, and why."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np

from twin.packing.fit import Fit, fits
from twin.packing.mix import MixFile, load_mix
from twin.packing.place import NOWHERE, POLICIES, Policy, Scheduler, arrivals, place
from twin.packing.reach import FitPolicy
from twin.packing.records import UNLIMITED, Hosts, Survive
from twin.packing.sources import read_hosts
from twin.packing.workloads import Workload
from twin.table import Table

FEWEST_MAX = 20_000
"""More machines than this are not packed onto the fewest hosts: it is a matter of percents long before."""


class Packing(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    """The answer, and what it was asked of. ``policies``: how many machines each policy reaches."""

    source: str
    hosts: Hosts
    file: MixFile
    survive: Survive
    spare: int
    fit: Fit
    policies: dict[str, int]

    def by_policy(self) -> Table:
        """Return a row for each policy: machines, and their share of the bound in percent."""
        bound = self.fit.bound_vms or self.fit.volume_survivors_vms
        share = [100 * vms / bound if bound else 0.0 for vms in self.policies.values()]
        columns = {"policy": list(self.policies), "vms": list(self.policies.values()), "of bound": share}
        return Table(columns, units={"vms": "VMs", "of bound": "%"}, title="by policy")

    def by_flavour(self) -> Table:
        """Return a row for each flavour: its size, its share, and how many of it fit."""
        flavours = self.file.mix.flavours
        columns = {
            "flavour": [flavour.name for flavour in flavours],
            "cores": [flavour.cores for flavour in flavours],
            "memory": [flavour.memory_bytes / 2**30 for flavour in flavours],
            "share": [100 * flavour.share / sum(one.share for one in flavours) for flavour in flavours],
            "vms": [self.fit.by_flavour.get(flavour.name, 0) for flavour in flavours],
        }
        units = {"cores": "vCPU", "memory": "GiB", "share": "%", "vms": "VMs"}
        return Table(columns, units=units, title="by flavour")

    def waterfall(self) -> Table:
        """Return the steps from all hosts taken as one to the machines that fit: each with what it takes away."""
        fit = self.fit
        steps = [
            ("all hosts as one", fit.volume_vms, 0),
            ("kept free for a loss", fit.volume_survivors_vms, fit.lost_to_headroom_vms),
            ("fragmentation", fit.vms, fit.lost_to_fragmentation_vms),
        ]
        columns = {"step": [s[0] for s in steps], "left": [s[1] for s in steps], "taken": [s[2] for s in steps]}
        return Table(columns, units={"left": "VMs", "taken": "VMs"}, title="what is left")


def pack(
    source: Path | str,
    mix: Path | str,
    survive: Survive = "node",
    spare: int = 1,
    policy: FitPolicy = "best",
) -> Packing:
    """Answer for a rack file or an OpenDC topology, and a mix file.

    Raises: InputError if a file is missing or wrong; ValueError as ``fits``.
    """
    file = load_mix(Path(mix))
    return packing_of(str(source), read_hosts(Path(source), file), file, survive, spare, policy)


def packing_of(
    source: str,
    hosts: Hosts,
    file: MixFile,
    survive: Survive,
    spare: int = 1,
    policy: FitPolicy = "best",
    progress: Callable[[int, int], None] | None = None,
) -> Packing:
    """Answer for hosts at hand. ``progress`` is told how many of how many searches are done.

    Raises: ValueError as ``fits``.
    """
    tell = progress or (lambda _done, _of: None)
    steps = 1 + len(POLICIES)
    tell(0, steps)
    fit = fits(hosts, file.mix, survive, spare, policy, bound=True)
    reached: dict[str, int] = {}
    for done, name in enumerate(POLICIES, 1):
        tell(done, steps)
        if not fit.why:
            reached[name] = fits(hosts, file.mix, survive, spare, name).vms
    tell(steps, steps)
    if not fit.why:
        reached.setdefault(fit.policy, fit.vms)
    return Packing(source=source, hosts=hosts, file=file, survive=survive, spare=spare, fit=fit, policies=reached)


def fills(hosts: Hosts, file: MixFile, vms: int, policy: Policy) -> Table:
    """Return how full each host is with ``vms`` machines, by the resource that is fullest; hosts from full to empty."""
    flavour_of, group_of = arrivals(file.mix, vms)
    host_of = place(hosts, file.mix, policy, flavour_of, group_of)
    there = host_of != NOWHERE
    used = np.zeros_like(hosts.room)
    np.add.at(used, host_of[there], file.mix.demands[flavour_of[there]])
    counted = hosts.room < UNLIMITED
    share = np.where(counted & (hosts.room > 0), used / np.maximum(hosts.room, 1), 0.0).max(axis=1)
    order = np.argsort(-share, kind="stable")
    columns = {"host": np.array(hosts.names)[order], "fill": 100 * share[order]}
    return Table(columns, units={"fill": "%"}, title=f"{policy}: fill of hosts")


def fewest_table(hosts: Hosts, file: MixFile, vms: int) -> Table | None:
    """Return how many hosts of the commonest type ``vms`` machines take: by volume, bound, plan, and packing policies.

    None if there are too many machines, or one is larger than such a host.
    """
    from twin.packing.bound import fewest, types_of

    types = types_of(hosts)
    room = types.room[int(types.counts.argmax())]
    if not 0 < vms <= FEWEST_MAX or (file.mix.demands > room).any():
        return None
    flavour_of, _ = arrivals(file.mix, vms)
    count = min(len(flavour_of), 2 * _volume_hosts(room.tolist(), file, flavour_of.tolist()) + 10)
    many = Hosts(
        names=tuple(str(index) for index in range(count)),
        room=np.tile(room, (count, 1)),
        racks=np.zeros(count, dtype=np.int64),
        pdus=np.zeros(count, dtype=np.int64),
        rack_names=("one",),
        pdu_names=("one",),
    )
    used = {name: _hosts_used(many, file, flavour_of.tolist(), name) for name in ("first_fit", "best_fit", "pack")}
    counts = np.bincount(flavour_of, minlength=len(file.mix.flavours))
    found = fewest(room, file.mix.demands, counts, used["first_fit"])
    rows = {"volume": found.volume, "bound (LP)": found.bound, "plan": found.hosts, **used}
    over = [100 * (hosts_taken / found.bound - 1) for hosts_taken in rows.values()]
    title = f"hosts of the commonest type for {len(flavour_of):,d} VMs"
    columns = {"by": list(rows), "hosts": list(rows.values()), "over bound": over}
    return Table(columns, units={"over bound": "%"}, title=title)


def _volume_hosts(room: list[int], file: MixFile, flavours: list[int]) -> int:
    totals = file.mix.demands[flavours].sum(axis=0).tolist()
    return int(max(-(-total // most) for total, most in zip(totals, room, strict=True) if total))


def _hosts_used(hosts: Hosts, file: MixFile, flavours: list[int], policy: Policy) -> int:
    scheduler = Scheduler(hosts, file.mix.demands, policy)
    used = set()
    for flavour in flavours:
        host = scheduler.choose(flavour)
        if host != NOWHERE:
            scheduler.put(flavour, host)
            used.add(host)
    return len(used)


def replays(hosts: Hosts, workload: Workload) -> Table:
    """Return what became of a workload's machines, which come and go, under each policy.

    Columns: machines placed and turned away, the most at one time, the most hosts in use at one time.
    """
    mix, flavour_of = workload.mix()
    flavours, events = flavour_of.tolist(), list(workload.events())
    rows = [_replayed(hosts, mix.demands, flavours, events, policy) for policy in POLICIES]
    names = ("policy", "placed", "turned away", "machines at most", "hosts at most")
    columns = {name: [row[index] for row in rows] for index, name in enumerate(names)}
    return Table(columns, title=f"{workload.name}: {len(workload):,d} machines, by policy")


def _replayed(
    hosts: Hosts, demands: np.ndarray, flavours: list[int], events: list[int], policy: Policy
) -> tuple[str, int, int, int, int]:
    scheduler = Scheduler(hosts, demands, policy)
    host_of: dict[int, int] = {}
    on = [0] * len(hosts)
    placed = most = hosts_in_use = hosts_most = 0
    for event in events:
        if event >= 0:
            host = scheduler.choose(flavours[event])
            if host == NOWHERE:
                continue
            scheduler.put(flavours[event], host)
            host_of[event] = host
            placed += 1
            on[host] += 1
            hosts_in_use += on[host] == 1
        elif (gone := host_of.pop(~event, None)) is not None:
            scheduler.take_back(flavours[~event], gone)
            on[gone] -= 1
            hosts_in_use -= on[gone] == 0
        most, hosts_most = max(most, len(host_of)), max(hosts_most, hosts_in_use)
    return policy, placed, len(flavours) - placed, most, hosts_most
