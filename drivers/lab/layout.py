"""How a lab is laid out on its machine: names of namespaces and cables, addresses, folders, and its state file."""

from pathlib import Path
from typing import Literal

import msgspec

from core.errors import InputError
from core.ids import DomainId, NodeId, RackId

STATE_FILE = "lab.json"
DEFAULT_NAME = "mxlab"
DEFAULT_DIR = Path("/var/lib/moxie-lab")

DATA_NET = "10.98.0"
BOOT_NET6 = "fd98::"
MANAGEMENT_NET = "10.98.1"
CLIENT_HOST = 250
INFRA_HOST = 254
BMC_HOST = 100
MACHINES_MAX = 9
MACHINE_HOST = 10
"""BMCs of machines listen from ``10.98.1.111`` on, away from those of native nodes."""
CONSOLE_PORT = 23_200
NODES_MAX = 9
"""Seven real nodes keep two cores busy; nine is what a patient person may ask for."""


class LabFailure(Exception):
    """Something the lab needed from this machine did not work; the message is for a person."""


class LabNode(msgspec.Struct, frozen=True, kw_only=True):
    """One node of a lab. ``number`` counts from 1 and is in its addresses; see ``core.specs.NodeSpec`` for the rest."""

    id: NodeId
    number: int
    rack: RackId = RackId("r1")
    power_domain: DomainId = DomainId("p1")
    weight: int = 100
    cores: int = 8
    memory_gib: int = 16
    switches: tuple[str, ...] = ("s1",)
    plugged: bool = True

    @property
    def data_address(self) -> str:
        """Its address for peers, ZooKeeper, clients and the storage."""
        return f"{DATA_NET}.{self.number}"

    @property
    def management_address(self) -> str:
        """Its own address in the BMCs' network."""
        return f"{MANAGEMENT_NET}.{self.number}"

    @property
    def bmc_address(self) -> str:
        """Where its BMC listens."""
        return f"{MANAGEMENT_NET}.{BMC_HOST + self.number}"

    @property
    def mac(self) -> str:
        """The hardware address of its data cable, the same at every boot."""
        return f"02:98:00:00:00:{self.number:02x}"

    @property
    def data_port(self) -> str:
        """The switch's end of its data cable."""
        return f"data{self.number}"

    @property
    def management_port(self) -> str:
        """The switch's end of its management cable."""
        return f"mgmt{self.number}"


class Guest(msgspec.Struct, frozen=True, kw_only=True):
    """One emulated machine: dark at first, in no inventory, known to its own BMC only.

    ``slot`` counts from 1: where it is plugged in. ``age`` counts machines that were in that slot before it. ``key``:
    its disk is the first server's key, on a USB port or as its only disk; it never boots from the network.
    """

    slot: int
    uuid: str
    age: int = 0
    memory_mib: int = 1_024
    disk_mib: int = 4_096
    firmware: Literal["bios", "uefi"] = "bios"
    processors: int = 1
    key: Literal["", "usb", "disk"] = ""

    @property
    def name(self) -> str:
        """What is written on its front: where it is plugged in."""
        return f"m{self.slot}"

    @property
    def bmc_address(self) -> str:
        """Where its BMC listens."""
        return f"{MANAGEMENT_NET}.{BMC_HOST + MACHINE_HOST + self.slot}"

    @property
    def mac(self) -> str:
        """The hardware address of its network card, another one for each machine."""
        return f"52:54:00:98:{self.age:02x}:{self.slot:02x}"

    @property
    def tap(self) -> str:
        """The switch's end of its cable."""
        return f"tap{self.slot}"

    @property
    def console_port(self) -> int:
        """Where its serial port is, on the loopback of the infra namespace."""
        return CONSOLE_PORT + self.slot


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """One lab: ``vips`` are the addresses of its services, ``boot_ms`` how long a node's firmware takes.

    ``key`` says what the lab was brought up for (rack, catalog, timers), so that a run knows whether it fits.
    ``programs``: the folder that nodes run their programs from, ``{node}`` in it is a node's name; "": this one's.
    ``guests``: emulated machines beside the nodes. ``found``: all nodes but the first are in no inventory; they have
    nothing but their firmware, and the rack finds, boots and admits them.
    """

    name: str
    folder: Path
    nodes: tuple[LabNode, ...]
    vips: tuple[str, ...] = ()
    boot_ms: int = 2_000
    python: str = ""
    key: str = ""
    voters: int = 3
    volumes: bool = True
    programs: str = ""
    guests: tuple[Guest, ...] = ()
    found: bool = False

    @property
    def infra(self) -> str:
        """The namespace of switches, BMCs and the storage's own services."""
        return f"{self.name}-infra"

    @property
    def client(self) -> str:
        """The namespace of clients and of the operator."""
        return f"{self.name}-client"

    def netns(self, node: NodeId) -> str:
        """The network namespace of a node."""
        return f"{self.name}-{node}"

    @property
    def namespaces(self) -> tuple[str, ...]:
        """Every network namespace of the lab."""
        return (self.infra, self.client, *(self.netns(node.id) for node in self.nodes))

    def get(self, node: NodeId) -> LabNode:
        """The node of that name. Raises: KeyError."""
        for one in self.nodes:
            if one.id == node:
                return one
        raise KeyError(node)

    @property
    def listed(self) -> tuple[LabNode, ...]:
        """The nodes of the inventory."""
        return self.nodes[:1] if self.found else self.nodes

    @property
    def dark(self) -> tuple[LabNode, ...]:
        """The nodes that are to be found."""
        return self.nodes[1:] if self.found else ()

    def home(self, node: NodeId) -> Path:
        """The folder of a node."""
        return self.folder / "nodes" / node

    def case(self, guest: Guest) -> Path:
        """The folder of an emulated machine."""
        return self.folder / "machines" / guest.name


def read_layout(folder: Path) -> Layout | None:
    """The lab that is (or was) up in ``folder``; None if there is none.

    Raises: InputError if its state file is not one.
    """
    file = folder / STATE_FILE
    try:
        return msgspec.json.decode(file.read_bytes(), type=Layout, dec_hook=lambda kind, value: kind(value))
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise InputError([f"{file}: cannot be read ({error}); needed: the state file of a lab"]) from None


def write_layout(layout: Layout) -> None:
    """Record the lab, so that ``down`` finds it whatever happens next."""
    layout.folder.mkdir(parents=True, exist_ok=True)
    file = layout.folder / STATE_FILE
    fresh = file.with_suffix(".new")
    fresh.write_bytes(to_json(layout))
    fresh.replace(file)


def to_json(record: msgspec.Struct) -> bytes:
    """A state file: JSON that a person can read, paths as text."""
    return msgspec.json.format(msgspec.json.encode(record, enc_hook=str), indent=2) + b"\n"
