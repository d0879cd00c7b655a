"""A rack made up of equal servers, for benchmarks and recorded traces."""

from typing import Annotated

import msgspec

from core.ids import DomainId, NodeId, RackId
from formats.hardware import Pdu, RackFile, Switch
from formats.rack import NODES_MAX, DiskTable, NicTable, Template, make_server


class SyntheticRack(msgspec.Struct, frozen=True, kw_only=True):
    """``rack = {nodes = 1000}`` in a scenario: equal servers in racks of ``per_rack``, for benchmarks and traces."""

    nodes: Annotated[int, msgspec.Meta(ge=1, le=NODES_MAX)]
    per_rack: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 40
    pdus_per_rack: Annotated[int, msgspec.Meta(ge=1, le=8)] = 2
    cores: Annotated[int, msgspec.Meta(ge=1, le=4_096)] = 32
    memory_gib: Annotated[int, msgspec.Meta(ge=1, le=65_536)] = 256
    disks: Annotated[int, msgspec.Meta(ge=0, le=100)] = 2


def synthesize(rack: SyntheticRack) -> RackFile:
    """Make up a rack of equal servers, dual-homed, with ids that sort in order."""
    width = len(str(rack.nodes))
    racks = -(-rack.nodes // rack.per_rack)
    rack_width = len(str(racks))
    template = Template(
        cores=rack.cores,
        memory_gib=rack.memory_gib,
        model="synthetic",
        disk=(DiskTable(model="synthetic", kind="ssd", size_gb=4_000, count=rack.disks),) if rack.disks else (),
        nic=(NicTable(model="synthetic", mbit_per_s=25_000, count=2),),
    )
    nodes = []
    for index in range(rack.nodes):
        number = f"r{index // rack.per_rack + 1:0{rack_width}}"
        nodes.append(
            make_server(
                NodeId(f"n{index + 1:0{width}}"),
                number,
                f"{number}p{index % rack.per_rack % rack.pdus_per_rack + 1}",
                (f"{number}s1", f"{number}s2"),
                template,
            )
        )
    numbers = [f"r{index + 1:0{rack_width}}" for index in range(racks)]
    spines = ("spine1", "spine2") if racks > 1 else ()
    return RackFile(
        name=f"synthetic-{rack.nodes}",
        nodes=tuple(nodes),
        pdus=tuple(
            Pdu(id=DomainId(f"{n}p{k + 1}"), rack=RackId(n)) for n in numbers for k in range(rack.pdus_per_rack)
        ),
        switches=tuple(
            [Switch(id=f"{n}s{k}", uplinks=spines or ((f"{n}s2",) if k == 1 else ())) for n in numbers for k in (1, 2)]
            + [Switch(id=spine, mbit_per_s=100_000) for spine in spines]
        ),
    )
