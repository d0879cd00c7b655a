"""Rack files, ``racks/*.toml``.

A file names single servers (``[[node]]``) or writes many at once (``[[group]]``); both take their parts from a
``[template.NAME]``. Sizes are given in GiB and GB and become bytes here.
"""

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from core.ids import DomainId, NodeId, RackId
from core.specs import NodeSpec
from formats.hardware import Disk, DiskKind, Nic, Pdu, RackFile, Server, Switch
from formats.load import Name, build, read_toml
from formats.problems import Problems, one_of

NODES_MAX = 100_000

Positive = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
Count = Annotated[int, msgspec.Meta(ge=1, le=NODES_MAX)]


Price = Annotated[float, msgspec.Meta(ge=0, le=1_000_000_000)]
Currency = Annotated[str, msgspec.Meta(pattern=r"\A[A-Z]{3}\Z", description="three capital letters such as EUR")]


class DiskTable(msgspec.Struct, frozen=True, kw_only=True):
    """``count`` equal disks of a template, each at ``price``."""

    model: str
    kind: DiskKind
    size_gb: Positive
    role: Literal["system", "osd"] = "osd"
    count: Annotated[int, msgspec.Meta(ge=1, le=100)] = 1
    price: Price | None = None


class NicTable(msgspec.Struct, frozen=True, kw_only=True):
    """``count`` equal ports of a template."""

    model: str
    mbit_per_s: Positive
    network: Literal["data", "storage"] = "data"
    count: Annotated[int, msgspec.Meta(ge=1, le=16)] = 1


class Template(msgspec.Struct, frozen=True, kw_only=True):
    """The parts of one model of server. ``price``: without its disks; ``watts``: drawn by all of it.

    ``votes``: it can run a ZooKeeper server; an image of profile minimal cannot.
    """

    cores: Annotated[int, msgspec.Meta(ge=1, le=4_096)]
    memory_gib: Annotated[int, msgspec.Meta(ge=1, le=65_536)]
    model: str = ""
    weight: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 100
    price: Price | None = None
    watts: Annotated[float, msgspec.Meta(ge=0, le=100_000)] | None = None
    votes: bool = True
    disk: tuple[DiskTable, ...] = ()
    nic: tuple[NicTable, ...] = ()


class PduTable(msgspec.Struct, frozen=True, kw_only=True):
    """``[[pdu]]``."""

    id: Name
    rack: Name
    watts_max: Positive = 7_400


class SwitchTable(msgspec.Struct, frozen=True, kw_only=True):
    """``[[switch]]``."""

    id: Name
    uplinks: tuple[Name, ...] = ()
    mbit_per_s: Positive = 25_000
    model: str = ""


class NodeTable(msgspec.Struct, frozen=True, kw_only=True):
    """``[[node]]``: one server."""

    id: Name
    rack: Name
    pdu: Name
    switches: tuple[Name, ...]
    template: Name
    plugged: bool = True


class GroupTable(msgspec.Struct, frozen=True, kw_only=True):
    """``[[group]]``: ``count`` servers in each of ``racks`` racks, with their PDUs and switches.

    In the names, ``{rack}`` becomes the number of the rack and ``{slot}`` that of the server in it, both from 1 and
    padded to the same width. Servers take turns on ``pdus``; they are cabled to all ``switches`` or, with
    ``single_homed``, take turns on them. ``spines`` are switches that every switch of the group is cabled to.
    """

    template: Name
    count: Count
    racks: Count = 1
    node: str = "r{rack}n{slot}"
    rack: str = "r{rack}"
    pdus: tuple[str, ...] = ("r{rack}p1", "r{rack}p2")
    switches: tuple[str, ...] = ("r{rack}s1", "r{rack}s2")
    spines: tuple[Name, ...] = ()
    single_homed: bool = False


class RackTables(msgspec.Struct, frozen=True, kw_only=True):
    """A whole file of ``racks/``."""

    name: Name
    currency: Currency = "EUR"
    template: dict[str, Template] = {}
    pdu: tuple[PduTable, ...] = ()
    switch: tuple[SwitchTable, ...] = ()
    node: tuple[NodeTable, ...] = ()
    group: tuple[GroupTable, ...] = ()


def load_rack(path: Path) -> RackFile:
    """Read a rack file.

    Raises: InputError with every problem of the file.
    """
    problems = Problems(str(path))
    tables = build(read_toml(path, "a rack file"), RackTables, problems)
    if tables is None:
        problems.check()
        raise AssertionError("a problem was noted")
    return assemble(tables, problems)


def assemble(tables: RackTables, problems: Problems) -> RackFile:
    """Put the tables of a file together.

    Raises: InputError with every problem that ``problems`` then holds.
    """
    pdus = [Pdu(id=DomainId(p.id), rack=RackId(p.rack), watts_max=p.watts_max) for p in tables.pdu]
    switches = [Switch(id=s.id, uplinks=s.uplinks, mbit_per_s=s.mbit_per_s, model=s.model) for s in tables.switch]
    nodes = [(f"node[{index}].id", _server(node, index, tables, problems)) for index, node in enumerate(tables.node)]
    for index, group in enumerate(tables.group):
        _expand(index, group, tables, problems, nodes, pdus, switches)
    _check_names(problems, nodes, pdus, switches)
    if not nodes:
        problems.say("node is missing; needed: at least one [[node]] or [[group]]")
    elif not any(server.spec.voter for _, server in nodes):
        problems.say("template: votes is false for every server; needed: at least one that can run a ZooKeeper server")
    problems.check()
    return RackFile(
        name=tables.name,
        nodes=tuple(sorted((server for _, server in nodes), key=lambda server: server.spec.id)),
        pdus=tuple(sorted(pdus, key=lambda pdu: pdu.id)),
        switches=tuple(sorted(switches, key=lambda switch: switch.id)),
        currency=tables.currency,
    )


def make_server(
    node: NodeId, rack: str, pdu: str, switches: tuple[str, ...], template: Template, plugged: bool = True
) -> Server:
    """Put one server together from its template."""
    spec = NodeSpec(
        id=node,
        rack=RackId(rack),
        power_domain=DomainId(pdu),
        weight=template.weight,
        cores=template.cores,
        memory_bytes=template.memory_gib << 30,
        voter=template.votes,
    )
    disks = [
        Disk(model=d.model, kind=d.kind, role=d.role, size_bytes=d.size_gb * 10**9, price=d.price)
        for d in template.disk
        for _ in range(d.count)
    ]
    nics = [
        Nic(model=n.model, network=n.network, mbit_per_s=n.mbit_per_s) for n in template.nic for _ in range(n.count)
    ]
    return Server(
        spec=spec,
        switches=switches,
        disks=tuple(disks),
        nics=tuple(nics),
        plugged=plugged,
        model=template.model,
        bare_price=template.price,
        watts=template.watts,
    )


_NO_PARTS = Template(cores=1, memory_gib=1)


def _template(name: str, key: str, tables: RackTables, problems: Problems) -> Template:
    """The template of that name; an empty one (and a problem) if there is none."""
    if name not in tables.template:
        problems.add(key, name, f"no such template; allowed: {one_of(tables.template)}", tables.template)
    return tables.template.get(name, _NO_PARTS)


def _server(node: NodeTable, index: int, tables: RackTables, problems: Problems) -> Server:
    template = _template(node.template, f"node[{index}].template", tables, problems)
    if not node.switches:
        problems.add(f"node[{index}].switches", node.switches, "allowed: at least one switch")
    return make_server(NodeId(node.id), node.rack, node.pdu, node.switches, template, node.plugged)


def _expand(
    index: int,
    group: GroupTable,
    tables: RackTables,
    problems: Problems,
    nodes: list[tuple[str, Server]],
    pdus: list[Pdu],
    switches: list[Switch],
) -> None:
    """Write out a group: its racks with their PDUs, switches and servers."""
    key = f"group[{index}]"
    template = _template(group.template, f"{key}.template", tables, problems)
    if group.count * group.racks > NODES_MAX:
        problems.add(f"{key}.count", group.count, f"allowed: {NODES_MAX} servers in all (racks is {group.racks})")
        return
    if not group.pdus or not group.switches:
        problems.say(f"{key}: needed: at least one name in pdus and one in switches")
        return
    before = len(problems.found)
    for number in range(1, group.racks + 1):
        rack = _name(group.rack, number, 0, group, f"{key}.rack", problems)
        feeds = [_name(name, number, 0, group, f"{key}.pdus", problems) for name in group.pdus]
        tops = [_name(name, number, 0, group, f"{key}.switches", problems) for name in group.switches]
        if len(problems.found) > before:
            return
        pdus += [Pdu(id=DomainId(name), rack=RackId(rack)) for name in feeds]
        pairs = zip(tops, [group.spines or tuple(tops[:at]) for at in range(len(tops))], strict=True)
        switches += [Switch(id=name, uplinks=uplinks) for name, uplinks in pairs]
        for slot in range(1, group.count + 1):
            node = _name(group.node, number, slot, group, f"{key}.node", problems)
            cabled = (tops[(slot - 1) % len(tops)],) if group.single_homed else tuple(tops)
            server = make_server(NodeId(node), rack, feeds[(slot - 1) % len(feeds)], cabled, template)
            nodes.append((f"{key}.node", server))
        if len(problems.found) > before:
            return


def _name(pattern: str, rack: int, slot: int, group: GroupTable, key: str, problems: Problems) -> str:
    """Fill a group's name pattern in."""
    name = pattern.replace("{rack}", str(rack).zfill(len(str(group.racks))))
    name = name.replace("{slot}", str(slot).zfill(len(str(group.count)))) if slot else name
    try:
        return msgspec.convert(name, Name)
    except msgspec.ValidationError:
        problems.add(key, pattern, 'allowed: a name in which "{rack}" and "{slot}" stand for numbers')
        return name


def _check_names(problems: Problems, nodes: list[tuple[str, Server]], pdus: list[Pdu], switches: list[Switch]) -> None:
    """Note names used twice and references to what is not there."""
    _twice(problems, [(key, server.spec.id) for key, server in nodes], "node")
    _twice(problems, [(f"pdu[{index}].id", pdu.id) for index, pdu in enumerate(pdus)], "pdu")
    _twice(problems, [(f"switch[{index}].id", switch.id) for index, switch in enumerate(switches)], "switch")
    feeds = {str(pdu.id): pdu.rack for pdu in pdus}
    known = {switch.id for switch in switches}
    for key, server in nodes:
        at = key.removesuffix(".id").removesuffix(".node")
        pdu = server.spec.power_domain
        if pdu not in feeds:
            problems.add(f"{at}.pdu", pdu, f"no such PDU; allowed: {one_of(feeds)}", feeds)
        elif feeds[pdu] != server.spec.rack:
            problems.add(f"{at}.pdu", pdu, f'is in rack "{feeds[pdu]}", the node in rack "{server.spec.rack}"')
        for switch in server.switches:
            if switch not in known:
                problems.add(f"{at}.switches", switch, f"no such switch; allowed: {one_of(known)}", known)
    for index, one in enumerate(switches):
        for uplink in one.uplinks:
            if uplink not in known or uplink == one.id:
                allowed = known - {one.id}
                problems.add(f"switch[{index}].uplinks", uplink, f"allowed: {one_of(allowed)}", allowed)


def _twice(problems: Problems, keyed: list[tuple[str, str]], what: str) -> None:
    """Note each name that was given before."""
    first: dict[str, str] = {}
    for key, name in keyed:
        if name in first:
            problems.add(key, name, f"this {what} is named twice; first as {first[name]}")
        else:
            first[name] = key
