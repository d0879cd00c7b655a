"""What a world is put together from: a rack's cabling, its disks and chassis, the pace of its services."""

from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from core.ids import DomainId, NodeId, ServiceName
from formats.catalog import Catalog, Spread
from formats.hardware import RackFile, Server
from twin.calibration import Calibration, Sampled
from twin.streams import Stream
from twin.world.census import Census
from twin.world.chassis import ChassisSpec, Restore
from twin.world.fabric import Fabric
from twin.world.storage import StorageLayout
from twin.world.unit import Pace

CLIENTS = NodeId("clients")
"""Where clients and operators sit in the fabric: cabled to every switch of the data network."""
MANAGEMENT = "management-network"
MONITORS_MAX = 5
COALESCE_MS, COALESCE_BIG_MS = 1_000, 20_000
"""In capacity fidelity news of joining nodes wait this long for more of them; the second in racks of more than BIG."""
BIG = 250


class SupervisorTimes(msgspec.Struct, frozen=True, kw_only=True):
    """Figures of section ``supervisor``; times in ms."""

    suspend_ms: Sampled
    kill_ms: Sampled


def cable(rack: RackFile) -> Fabric:
    """Lay the data and storage networks over the rack's switches; BMCs hang on a management network of their own."""
    fabric = Fabric()
    for switch in rack.switches:
        fabric.add_switch(switch.id, ("data", "storage"))
    fabric.add_switch(MANAGEMENT, ("management",))
    for switch in rack.switches:
        for uplink in switch.uplinks:
            fabric.connect(switch.id, uplink)
    for server in rack.nodes:
        fabric.add_node(server.id, (*server.switches, MANAGEMENT))
    fabric.add_node(CLIENTS, [switch.id for switch in rack.switches])
    return fabric


def coalesce_of(nodes: int) -> int:
    """How long news of joining nodes wait for more of them."""
    return COALESCE_BIG_MS if nodes > BIG else COALESCE_MS


def first_voters(servers: Sequence[Server], size_max: int = 5) -> tuple[NodeId, ...]:
    """Choose 1, 3 or 5 nodes for ZooKeeper among those that can run it, first by id, spread over power domains."""
    left: dict[DomainId, list[NodeId]] = {}
    able = sorted((server for server in servers if server.spec.voter), key=lambda s: s.id)
    for server in able:
        left.setdefault(server.spec.power_domain, []).append(server.id)
    size = min(size_max, len(able) if len(able) % 2 else len(able) - 1)
    chosen: list[NodeId] = []
    while len(chosen) < size:
        for domain in sorted(left):
            if left[domain] and len(chosen) < size:
                chosen.append(left[domain].pop(0))
    return tuple(sorted(chosen))


def storage_layout(rack: RackFile, catalog: Catalog, servers: Sequence[Server]) -> StorageLayout:
    """One storage daemon a disk, monitors where ZooKeeper begins; a rack without storage disks gets one on each."""
    monitors = first_voters(servers, MONITORS_MAX)
    disks = {server.id: len(server.osd_disks) for server in rack.nodes}
    if not any(disks.values()):
        disks = {server.id: int(server.id in monitors) for server in rack.nodes}
    volumes = tuple(dict.fromkeys(spec.volume for spec in catalog.specs if spec.volume))
    return StorageLayout(disks=disks, monitors=monitors, volumes=volumes)


def in_places(rack: RackFile, census: Census | None) -> RackFile:
    """The same rack, its servers named by their places where nobody has listed them."""
    if census is None:
        return rack
    servers = [replace(s, spec=replace(s.spec, id=census.place_of(s.id))) for s in rack.nodes]
    first = [replace(s, spec=replace(s.spec, number=1)) for s in servers if census.is_named(s.id)]
    return replace(rack, nodes=(*first, *(s for s in servers if not census.is_named(s.id))))


def chassis_specs(rack: RackFile, restore: Restore, census: Census | None = None) -> tuple[ChassisSpec, ...]:
    """One chassis for each server; where machines must be found, all but the first are bare."""
    return tuple(
        ChassisSpec(
            node=server.id,
            pdu=server.spec.power_domain,
            restore=restore,
            plugged=server.plugged,
            installed=server.plugged if census is None else census.is_named(server.id),
            identity=None if census is None else census.identities[server.id],
        )
        for server in rack.nodes
    )


def sampled(spread: Spread) -> Sampled:
    """A duration of the catalog as something to draw from."""
    return Sampled(
        source="catalog",
        min=float(spread.min),
        p50=float(spread.p50),
        p90=float(spread.p90),
        max=float(spread.max),
    )


def pace(catalog: Catalog, calibration: Calibration, stream: Stream) -> Pace:
    """Durations of the services on one node, drawn from that node's stream."""
    times = calibration.section("supervisor", SupervisorTimes)
    of = calibration.of_service
    start = {s.spec.name: of(s.spec.name, "start_ms", sampled(s.twin.start_ms)) for s in catalog.services}
    recovery = {s.spec.name: of(s.spec.name, "recovery_ms", sampled(s.twin.recovery_ms)) for s in catalog.services}
    stop = {s.spec.name: of(s.spec.name, "stop_ms", sampled(s.twin.stop_ms)) for s in catalog.services}

    def drawn(table: dict[ServiceName, Sampled], service: ServiceName) -> int:
        return table[service].draw(stream)

    return Pace(
        start_ms=lambda service: drawn(start, service),
        recovery_ms=lambda service: drawn(recovery, service),
        stop_ms=lambda service: drawn(stop, service),
        suspend_ms=lambda: times.suspend_ms.draw(stream),
        kill_ms=lambda: times.kill_ms.draw(stream),
    )
