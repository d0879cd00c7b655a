"""The hardware of a rack: servers with their disks and ports, power domains, switches. Plain frozen records."""

from typing import Literal

import msgspec

from core.ids import DomainId, NodeId, RackId
from core.specs import NodeSpec

DiskKind = Literal["hdd", "ssd", "nvme"]


class Disk(msgspec.Struct, frozen=True, kw_only=True):
    """One disk. ``osd`` disks carry storage, ``system`` disks the operating system and ZooKeeper's log.

    ``price``: of this one disk in the rack file's currency, None where the file says nothing.
    """

    model: str
    kind: DiskKind
    role: Literal["system", "osd"]
    size_bytes: int
    price: float | None = None


class Nic(msgspec.Struct, frozen=True, kw_only=True):
    """One port of a server, with the network it belongs to."""

    model: str
    network: Literal["data", "storage"]
    mbit_per_s: int


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """One machine. ``switches``: those it is cabled to (it is on the network while one of them and its link is up).

    ``plugged`` is False for a server that is carried in later (fault ``new_node``); it has no power until then.
    ``bare_price``: without its disks, in the rack file's currency; ``watts``: drawn in all. None where nothing is said.
    """

    spec: NodeSpec
    switches: tuple[str, ...]
    disks: tuple[Disk, ...] = ()
    nics: tuple[Nic, ...] = ()
    plugged: bool = True
    model: str = ""
    bare_price: float | None = None
    watts: float | None = None

    @property
    def price(self) -> float | None:
        """What the server and its disks cost together; None if the file prices none of them."""
        prices = [price for price in (self.bare_price, *(disk.price for disk in self.disks)) if price is not None]
        return sum(prices) if prices else None

    @property
    def id(self) -> NodeId:
        """The node's name."""
        return self.spec.id

    @property
    def osd_disks(self) -> tuple[Disk, ...]:
        """The disks that carry storage, in slot order."""
        return tuple(disk for disk in self.disks if disk.role == "osd")


class Switch(msgspec.Struct, frozen=True, kw_only=True):
    """One switch and the switches it is cabled to."""

    id: str
    uplinks: tuple[str, ...] = ()
    mbit_per_s: int = 25_000
    model: str = ""


class Pdu(msgspec.Struct, frozen=True, kw_only=True):
    """One power distribution unit, the root of a power domain."""

    id: DomainId
    rack: RackId
    watts_max: int = 7_400


class RackFile(msgspec.Struct, frozen=True, kw_only=True):
    """A rack (or several, a cell), with ``nodes`` in order of their ids. Prices are in ``currency``."""

    name: str
    nodes: tuple[Server, ...]
    pdus: tuple[Pdu, ...]
    switches: tuple[Switch, ...]
    currency: str = "EUR"

    @property
    def node_ids(self) -> tuple[NodeId, ...]:
        """Names of all nodes, also of those not plugged in yet."""
        return tuple(server.spec.id for server in self.nodes)

    @property
    def specs(self) -> tuple[NodeSpec, ...]:
        """What the core knows of each node."""
        return tuple(server.spec for server in self.nodes)

    @property
    def racks(self) -> tuple[RackId, ...]:
        """Names of the racks."""
        return tuple(sorted({server.spec.rack for server in self.nodes} | {pdu.rack for pdu in self.pdus}))

    def nodes_of_pdu(self, pdu: str) -> tuple[NodeId, ...]:
        """The nodes that one PDU feeds."""
        return tuple(server.spec.id for server in self.nodes if server.spec.power_domain == pdu)

    def nodes_of_rack(self, rack: str) -> tuple[NodeId, ...]:
        """The nodes of one rack."""
        return tuple(server.spec.id for server in self.nodes if server.spec.rack == rack)

    def pdus_of_rack(self, rack: str) -> tuple[DomainId, ...]:
        """The PDUs of one rack."""
        return tuple(pdu.id for pdu in self.pdus if pdu.rack == rack)

    def nodes_of_switch(self, switch: str) -> tuple[NodeId, ...]:
        """The nodes that are cabled to one switch."""
        return tuple(server.spec.id for server in self.nodes if switch in server.switches)
