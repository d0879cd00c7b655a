"""A rack made up of equal servers: for benchmarks, for recorded traces, and for campaigns of random faults."""

from typing import Annotated

import msgspec

from core.ids import DomainId, NodeId, RackId
from formats.hardware import Pdu, RackFile, Server, Switch
from formats.rack import NODES_MAX, DiskTable, NicTable, Template, make_server


class SyntheticRack(msgspec.Struct, frozen=True, kw_only=True):
    """``rack = {nodes = 1000}`` in a scenario: equal servers in racks of ``per_rack``.

    ``spares`` more servers stand beside them, not plugged in yet. Servers take turns on the PDUs of their rack; with
    ``pdus_uneven`` every second one is on the first PDU. They are cabled to all switches of their rack or, with
    ``single_homed``, take turns on them.
    """

    nodes: Annotated[int, msgspec.Meta(ge=1, le=NODES_MAX)]
    per_rack: Annotated[int, msgspec.Meta(ge=1, le=1_000)] = 40
    pdus_per_rack: Annotated[int, msgspec.Meta(ge=1, le=8)] = 2
    pdus_uneven: bool = False
    switches_per_rack: Annotated[int, msgspec.Meta(ge=1, le=8)] = 2
    single_homed: bool = False
    spares: Annotated[int, msgspec.Meta(ge=0, le=1_000)] = 0
    cores: Annotated[int, msgspec.Meta(ge=1, le=4_096)] = 32
    memory_gib: Annotated[int, msgspec.Meta(ge=1, le=65_536)] = 256
    disks: Annotated[int, msgspec.Meta(ge=0, le=100)] = 2


def synthesize(rack: SyntheticRack) -> RackFile:
    """Make up a rack of equal servers with ids that sort in order; switch 1 of a rack is cabled to its others."""
    racks = -(-(rack.nodes + rack.spares) // rack.per_rack)
    width = len(str(racks))
    numbers = [f"r{index + 1:0{width}}" for index in range(racks)]
    spines = ("spine1", "spine2") if racks > 1 else ()
    pdus = [Pdu(id=DomainId(f"{n}p{k + 1}"), rack=RackId(n)) for n in numbers for k in range(rack.pdus_per_rack)]
    switches = [
        Switch(id=top, uplinks=_uplinks(top, tops, spines))
        for tops in (_tops(number, rack) for number in numbers)
        for top in tops
    ]
    return RackFile(
        name=f"synthetic-{rack.nodes}",
        nodes=_servers(rack, numbers),
        pdus=tuple(pdus),
        switches=(*switches, *(Switch(id=spine, mbit_per_s=100_000) for spine in spines)),
    )


def _servers(rack: SyntheticRack, numbers: list[str]) -> tuple[Server, ...]:
    template = Template(
        cores=rack.cores,
        memory_gib=rack.memory_gib,
        model="synthetic",
        disk=(DiskTable(model="synthetic", kind="ssd", size_gb=4_000, count=rack.disks),) if rack.disks else (),
        nic=(NicTable(model="synthetic", mbit_per_s=25_000, count=2),),
    )
    count = rack.nodes + rack.spares
    width = len(str(count))
    servers = []
    for index in range(count):
        number, slot = numbers[index // rack.per_rack], index % rack.per_rack
        tops = _tops(number, rack)
        cabled = (tops[slot % len(tops)],) if rack.single_homed else tops
        pdu = f"{number}p{_pdu(slot, rack) + 1}"
        node = NodeId(f"n{index + 1:0{width}}")
        servers.append(make_server(node, number, pdu, cabled, template, plugged=index < rack.nodes))
    return tuple(servers)


def _pdu(slot: int, rack: SyntheticRack) -> int:
    """Which PDU of its rack feeds the server in a slot, counted from 0."""
    if not rack.pdus_uneven or rack.pdus_per_rack == 1:
        return slot % rack.pdus_per_rack
    return 0 if slot % 2 == 0 else 1 + slot // 2 % (rack.pdus_per_rack - 1)


def _tops(number: str, rack: SyntheticRack) -> tuple[str, ...]:
    """The switches of one rack."""
    return tuple(f"{number}s{k + 1}" for k in range(rack.switches_per_rack))


def _uplinks(top: str, tops: tuple[str, ...], spines: tuple[str, ...]) -> tuple[str, ...]:
    """A single rack has no spines: its first switch is cabled to the others."""
    return spines or (tops[1:] if top == tops[0] else ())
