"""How many virtual machines fit: cores and memory from raw to what is left for them, as waterfalls, and the packing."""

import math
from collections.abc import Sequence
from typing import Literal

import msgspec

from formats.catalog import Catalog
from twin.capacity.assumptions import Assumptions
from twin.capacity.cluster import Cluster, Host
from twin.capacity.steps import Left, Step, cascade
from twin.packing.fit import Fit, fits
from twin.packing.records import Flavour, Hosts, Mix, Survive, make_hosts

SURVIVED: dict[str, Survive] = {"none": "none", "node": "node", "rack": "rack", "pdu": "pdu"}
STORAGE, HYPERVISOR = "osd", "hypervisor"
"""Services of a catalog with these names stand for what the assumptions would keep otherwise."""


class Machines(msgspec.Struct, frozen=True, kw_only=True):
    """How many virtual machines of the mix fit, step by step; ``vms`` is None with a ``reason`` where none can say."""

    vms: int | None
    steps: tuple[Step, ...] = ()
    reason: str = ""
    by_flavour: dict[str, int] = {}
    binding: str = ""
    worst: tuple[str, ...] = ()


class _Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What one purpose keeps of each host: cores and bytes of memory, in the order of the hosts."""

    name: str
    why: str
    source: str
    cores: tuple[float, ...]
    memory_bytes: tuple[float, ...]
    change: tuple[str, ...] = ()


def machines(
    cluster: Cluster,
    figures: Assumptions,
    catalog: Catalog | None = None,
    mix: Mix | None = None,
    survive: str | None = None,
    usable_bytes: int | None = None,
) -> Machines:
    """Count the virtual machines that fit, after all that the rack itself needs and with room for a loss.

    ``mix``: flavours and shares (None: the one VM of the assumptions); ``survive``: as for bytes; ``usable_bytes``:
    room for their disks (None: not counted).
    """
    hosts = [_completed(host, figures) for host in cluster.hosts]
    if not hosts or any(not host.cores or not host.memory_bytes for host in hosts):
        unknown = next((host.name for host in hosts if not host.cores or not host.memory_bytes), "any host")
        reason = f"{cluster.source} says nothing of the cores and memory of {unknown}"
        reason += ": set cores_per_node and memory_gib_per_node"
        return Machines(vms=None, reason=reason)
    chosen = SURVIVED[survive or figures.word("survive")]
    kept = _kept(cluster, hosts, figures, catalog, standby=chosen != "none")
    flavours = mix or _one_flavour(figures)
    ratios = (figures.number("cores_ratio"), figures.number("memory_ratio"))
    packed = make_hosts(
        [host.name for host in hosts],
        [host.cores or 0 for host in hosts],
        [host.memory_bytes or 0 for host in hosts],
        racks=[host.rack or "" for host in hosts],
        pdus=[host.pdu or host.name for host in hosts],
        cores_ratio=ratios[0],
        memory_ratio=ratios[1],
        held_cores=_whole(kept, hosts, "cores"),
        held_memory_bytes=_whole(kept, hosts, "memory_bytes"),
    )
    fit = fits(packed, flavours, survive=chosen, spare=max(1, figures.whole("spare_nodes")))
    if figures.whole("spare_nodes") == 0:
        fit = fits(packed, flavours, survive="none")
    steps = [*_resource(hosts, kept, packed, figures, "cores"), *_resource(hosts, kept, packed, figures, "memory")]
    counted, vms = _counted(fit, flavours, figures, chosen, usable_bytes)
    by_flavour = fit.by_flavour if vms == fit.vms else {}
    return Machines(vms=vms, steps=(*steps, *counted), by_flavour=by_flavour, binding=str(fit.binding), worst=fit.worst)


def _completed(host: Host, figures: Assumptions) -> Host:
    """The host with the assumed cores and memory where its source knows none."""
    return msgspec.structs.replace(
        host,
        cores=host.cores or figures.whole("cores_per_node") or None,
        memory_bytes=host.memory_bytes or (figures.whole("memory_gib_per_node") << 30) or None,
    )


def _one_flavour(figures: Assumptions) -> Mix:
    cores, memory = figures.whole("vm_cores"), figures.whole("vm_memory_gib")
    flavour = Flavour(name=f"{cores} vCPUs, {memory} GiB", cores=cores, memory_bytes=memory << 30)
    return Mix(name="one flavour", flavours=(flavour,), source=figures.source("vm_cores"))


def _kept(
    cluster: Cluster, hosts: Sequence[Host], figures: Assumptions, catalog: Catalog | None, standby: bool
) -> list[_Kept]:
    """What the rack needs for itself on each host, purpose by purpose."""
    specs = {spec.name: spec for spec in catalog.specs} if catalog is not None else {}
    everywhere = [spec for spec in specs.values() if spec.run == "everywhere"]
    named = {str(spec.name) for spec in everywhere}
    osds = {host.name: 0 for host in hosts}
    for osd in cluster.osds:
        osds[osd.host] = osds.get(osd.host, 0) + 1
    catalog_name = f"catalog {catalog.name}" if catalog is not None else "no catalog"
    kept = []
    for service, name, keys in (
        (STORAGE, "storage daemons", ("osd_cores", "osd_memory_gib")),
        (HYPERVISOR, "system, hypervisor", ("host_cores", "host_memory_gib")),
    ):
        times = [osds[host.name] if service == STORAGE else 1 for host in hosts]
        cores, memory = figures.number(keys[0]), figures.number(keys[1]) * (1 << 30)
        source, unit = figures.source(keys[0]), "OSD" if service == STORAGE else "node"
        if service in named:
            spec = next(spec for spec in everywhere if spec.name == service)
            times, cores, memory = [1] * len(hosts), float(spec.cores), float(spec.memory_bytes)
            source, unit = f"{catalog_name}, service {service}", "node"
        one = _Kept(
            name=name,
            why=f"{cores:g} core{'' if cores == 1 else 's'} and {memory / (1 << 30):g} GiB for each {unit}",
            source=source,
            cores=tuple(cores * count for count in times),
            memory_bytes=tuple(memory * count for count in times),
            change=keys,
        )
        kept.append(one)
    rest = [spec for spec in everywhere if spec.name not in (STORAGE, HYPERVISOR)]
    each = (float(sum(spec.cores for spec in rest)), float(sum(spec.memory_bytes for spec in rest)))
    kept.append(
        _Kept(
            name="services everywhere",
            why=f"{len(rest)} services that run on every node",
            source=catalog_name,
            cores=(each[0],) * len(hosts),
            memory_bytes=(each[1],) * len(hosts),
        )
    )
    kept.append(_elected(hosts, catalog, kept, standby, catalog_name))
    return kept


def _elected(
    hosts: Sequence[Host], catalog: Catalog | None, kept: Sequence[_Kept], standby: bool, source: str
) -> _Kept:
    """Spread singletons and counted services, largest first, to the hosts with most memory left.

    With ``standby``, room for each singleton is kept on a second host too, where it goes when its node is lost.
    """
    cores, memory = [0.0] * len(hosts), [0.0] * len(hosts)
    left = [float(host.memory_bytes or 0) - sum(one.memory_bytes[at] for one in kept) for at, host in enumerate(hosts)]
    specs = [spec for spec in catalog.specs if spec.run != "everywhere"] if catalog is not None else []
    for spec in sorted(specs, key=lambda spec: (-spec.memory_bytes, -spec.cores, spec.name)):
        copies = spec.count if spec.run == "count" else 2 if standby else 1
        ranked = sorted(range(len(hosts)), key=lambda at: (memory[at] - left[at], at))
        for at in ranked[:copies]:
            cores[at] += spec.cores
            memory[at] += spec.memory_bytes
    again = ", room for each singleton on a second node too" if standby else ""
    return _Kept(
        name="control plane",
        why=f"{len(specs)} elected or counted services{again}",
        source=source,
        cores=tuple(cores),
        memory_bytes=tuple(memory),
        change=("survive",),
    )


def _whole(kept: Sequence[_Kept], hosts: Sequence[Host], what: str) -> list[int]:
    """What is kept of each host in all, rounded up, at most all of it."""
    cores = what == "cores"
    held = [sum(one.cores[at] if cores else one.memory_bytes[at] for one in kept) for at in range(len(hosts))]
    most = [(host.cores if cores else host.memory_bytes) or 0 for host in hosts]
    return [min(limit, math.ceil(amount)) for limit, amount in zip(most, held, strict=True)]


def _resource(
    hosts: Sequence[Host], kept: Sequence[_Kept], packed: Hosts, figures: Assumptions, what: Literal["cores", "memory"]
) -> tuple[Step, ...]:
    """The waterfall of cores or memory up to what virtual machines may ask for."""
    if what == "cores":
        raw, unit, key, column = float(sum(host.cores or 0 for host in hosts)), "cores", "cores_ratio", 0
    else:
        raw, unit, key, column = (
            float(sum(host.memory_bytes or 0 for host in hosts)),
            "bytes of memory",
            "memory_ratio",
            1,
        )
    lefts, left = [], raw
    for one in kept:
        left -= sum(one.cores if what == "cores" else one.memory_bytes)
        lefts.append(Left(name=one.name, amount=left, why=one.why, source=one.source, change=one.change))
    ratio = figures.number(key)
    why = f"each {'core' if what == 'cores' else 'byte'} is promised {ratio:g} times, whole ones of each node"
    promised = Left(
        name="oversubscription",
        amount=float(packed.room[:, column].sum()),
        why=why if ratio != 1 else "none: each is promised once",
        source=figures.source(key),
        change=(key,),
    )
    before = cascade(unit, raw, lefts)
    return before + cascade(unit, before[-1].after if before else raw, [promised], rising=True)


def _counted(
    fit: Fit, mix: Mix, figures: Assumptions, survive: Survive, usable_bytes: int | None
) -> tuple[tuple[Step, ...], int]:
    """The waterfall of virtual machines: all hosts as one box, then headroom, then fragmentation, then disks."""
    lost = f"the loss of any {figures.whole('spare_nodes')} {survive}" if survive != "none" else "no loss"
    worst = f"; worst: {', '.join(fit.worst)}" if fit.worst else ""
    names = ", ".join(flavour.name for flavour in mix.flavours[:3]) + (" ..." if len(mix.flavours) > 3 else "")
    lefts = [
        Left(
            name="headroom",
            amount=fit.volume_vms - fit.lost_to_headroom_vms,
            why=f"the rest must take all VMs after {lost}{worst}",
            source=figures.source("survive"),
            change=("survive", "spare_nodes"),
        ),
        Left(
            name="fragmentation",
            amount=fit.vms,
            why=f"what is left on a node is too little for one more ({names}); {fit.binding} is the limit",
            source=f"computed: packing of {mix.name}, policy {fit.policy}",
            change=("vm_cores", "vm_memory_gib"),
        ),
    ]
    disk = figures.whole("vm_disk_gib") << 30
    each = sum(one.disk_bytes * one.share for one in mix.flavours) / sum(one.share for one in mix.flavours)
    if usable_bytes is not None and (disk or each):
        held = usable_bytes // (disk or each)
        why, source = "usable bytes for so many disks of VMs", figures.source("vm_disk_gib")
        lefts.append(Left(name="disks", amount=held, why=why, source=source, change=("vm_disk_gib",)))
    steps = cascade("VMs", fit.volume_vms, lefts)
    return steps, int(steps[-1].after)
