"""Somebody on the boot network who belongs to nobody: he hears what is said there, and asks for what is not his.

    python -m drivers.lab.stranger FOLDER      until it is ended; orders come as files, outcomes go to a file

He has one cable in the boot network's switch, which behaves as a hub to him: the strongest place that an attacker has
who neither holds a key of the rack nor sits in one of its machines. What he knows he has heard, or made up. He acts
the moment he hears a boot script, so that he is faster than the machine that it was for.
"""

import re
import socket
import struct
import sys
import uuid as uuids
from ctypes import addressof, create_string_buffer
from pathlib import Path
from typing import Literal
from urllib.parse import unquote

import msgspec

from drivers.clock import now_ms
from drivers.lab import firmware
from drivers.lab.layout import DATA_NET
from drivers.lab.request import Answer, Ticket, redeem

Attack = Literal["rogue", "thief", "clone", "twin", "replay", "return"]

INTERFACE = firmware.INTERFACE
MAC = "02:98:00:00:66:66"
HTTP_PORT = 8_080
HOSTS_TRIED = range(1, 10)
SERVERS_MAX = 4
ALIVE_S, LOOK_S = 0.3, 0.05
HEARD_MAX = 1_000
FRAME_BYTES_MAX = 1 << 17
BUFFER_BYTES = 4 << 20
SO_ATTACH_FILTER, SO_RCVBUFFORCE, SOL_PACKET, PACKET_ADD_MEMBERSHIP, PACKET_MR_PROMISC = 26, 33, 263, 1, 1
EVERY_PROTOCOL = 0x0003
SCRIPT = re.compile(rb"^kernel \S+ (.*moxie\.token=[0-9a-f]{64}.*?) \|\|", re.MULTILINE)
QUESTION = re.compile(rb"GET /node\.ipxe\?uuid=([^& ]+)&mac=([^& ]+)")
SAYS_NO = re.compile(r"not booted from the network \((.*?)\)")
FILTER = (  # IPv4, TCP, from or to the port of scripts and images; Source: Linux, Documentation/networking/filter.rst
    (0x28, 0, 0, 12),
    (0x15, 0, 8, 0x0800),
    (0x30, 0, 0, 23),
    (0x15, 0, 6, 6),
    (0xB1, 0, 0, 14),
    (0x48, 0, 0, 14),
    (0x15, 2, 0, HTTP_PORT),
    (0x48, 0, 0, 16),
    (0x15, 0, 1, HTTP_PORT),
    (0x06, 0, 0, FRAME_BYTES_MAX),
    (0x06, 0, 0, 0),
)


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What to do. ``tag``: of the fault; ``forget``: do no more of what that fault ordered."""

    tag: str
    attack: Attack
    node: str = ""
    forget: bool = False


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What one question of his got. ``what``: for what he asked; ``script`` and ``admitted``: he got it.

    ``refused``: the reason that he was told.
    """

    at_ms: int
    tag: str
    attack: Attack
    what: Literal["address", "script", "certificate"]
    node: str = ""
    got: bool = False
    refused: str = ""
    problem: str = ""


class Stranger:
    """His ears and his hands. ``folder``: orders and outcomes."""

    def __init__(self, folder: Path) -> None:
        self._orders = folder / "orders"
        self._outcomes = folder / "outcomes.jsonl"
        self._uuids: dict[str, str] = {}
        self._tickets: dict[str, Ticket] = {}
        self._armed: list[Order] = []

    def live(self) -> None:
        """Hear and obey until the process is ended."""
        with _ears() as ears:
            (self._orders.parent / "ready").touch()
            while True:
                self._obey()
                try:
                    frame = ears.recv(FRAME_BYTES_MAX)
                except TimeoutError:
                    continue
                self._hear(frame)

    def _obey(self) -> None:
        """Do what is ordered; an order is there until it is done."""
        for path in sorted(self._orders.glob("*.json")):
            self._do(msgspec.json.decode(path.read_bytes(), type=Order))
            path.unlink()

    def _do(self, order: Order) -> None:
        if order.forget:
            self._armed = [one for one in self._armed if one.tag != order.tag]
            return
        match order.attack:
            case "rogue":
                self._rogue(order)
            case "replay":
                self._replay(order)
            case "return":
                self._return(order)
            case "thief" | "clone" | "twin":
                self._armed.append(order)

    def _hear(self, frame: bytes) -> None:
        """Take what a frame tells: who asked for a script, and what he was given."""
        if asked := QUESTION.search(frame):
            his_uuid, mac = (unquote(part.decode("ascii", "replace")) for part in asked.groups())
            self._uuids[mac.replace("-", ":").lower()] = his_uuid
            while len(self._uuids) > HEARD_MAX:
                del self._uuids[next(iter(self._uuids))]
        if given := SCRIPT.search(frame):
            words = dict(word.split("=", 1) for word in given[1].decode("ascii", "replace").split() if "=" in word)
            ticket = Ticket.of(words, self._uuids.get(words.get("moxie.mac", ""), ""))
            if self._tickets.get(ticket.node) != ticket and len(self._tickets) < HEARD_MAX:
                self._tickets[ticket.node] = ticket
                self._strike(ticket)

    def _strike(self, ticket: Ticket) -> None:
        """A script was given for which he has waited."""
        due = [order for order in self._armed if order.node == ticket.node]
        self._armed = [order for order in self._armed if order not in due]
        for order in due:
            match order.attack:
                case "thief":
                    self._tell(order, redeem(ticket, _made_up_uuid(), MAC))
                case "clone":
                    self._ask(order, ticket.server, _made_up_uuid(), ticket.mac)
                case "twin":
                    self._ask(order, ticket.server, ticket.uuid, ticket.mac)
                case "rogue" | "replay" | "return":
                    pass  # they wait for nothing

    def _rogue(self, order: Order) -> None:
        """Ask for an address, for a script, and for a certificate with a token that nobody gave out."""
        mine = _made_up_uuid()
        address, _, _ = firmware.lease(mine, MAC, ipxe=False)
        self._write(order, "address", got=bool(address))
        token, image = uuids.uuid4().hex + uuids.uuid4().hex, "0" * 16
        for server in _servers():
            self._ask(order, server, mine, MAC)
            made_up = Ticket(node="n1", mac=MAC, server=server, image=image, token=token)
            self._tell(order, redeem(made_up, mine))

    def _replay(self, order: Order) -> None:
        ticket = self._tickets.get(order.node)
        if ticket is None:
            self._write(order, "certificate", problem="he never heard its script")
        else:
            self._tell(order, redeem(ticket, ticket.uuid))

    def _return(self, order: Order) -> None:
        """Ask as a machine that was here before, whose name he has heard."""
        ticket = self._tickets.get(order.node)
        if ticket is None:
            self._write(order, "script", problem="he never heard its script")
            return
        for server in _servers():
            self._ask(order, server, ticket.uuid, ticket.mac)
        self._tell(order, redeem(ticket, ticket.uuid))

    def _ask(self, order: Order, server: str, his_uuid: str, mac: str) -> None:
        """Ask a boot server for a script."""
        query = f"uuid={his_uuid}&mac={mac.replace(':', '-')}&serial=S1&plat=pcbios"
        try:
            script = firmware.fetch(f"http://{server}:{HTTP_PORT}/node.ipxe?{query}").decode(errors="replace")
        except OSError as error:
            self._write(order, "script", problem=str(error))
            return
        no = SAYS_NO.search(script)
        self._write(order, "script", got="moxie.token" in script, refused=no[1].replace(" ", "_") if no else "")

    def _tell(self, order: Order, answer: Answer) -> None:
        self._write(order, "certificate", got=answer.admitted, refused=answer.refused, problem=answer.problem)

    def _write(
        self,
        order: Order,
        what: Literal["address", "script", "certificate"],
        got: bool = False,
        refused: str = "",
        problem: str = "",
    ) -> None:
        outcome = Outcome(
            at_ms=now_ms(),
            tag=order.tag,
            attack=order.attack,
            what=what,
            node=order.node,
            got=got,
            refused=refused,
            problem=problem,
        )
        with self._outcomes.open("ab") as file:
            file.write(msgspec.json.encode(outcome) + b"\n")


def _ears() -> socket.socket:
    """A socket that hears all scripts and images on the wire, whomever they are for."""
    ears = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(EVERY_PROTOCOL))
    program = create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in FILTER))
    ears.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HL", len(FILTER), addressof(program)))
    ears.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
    ears.bind((INTERFACE, 0))
    everything = struct.pack("iHH8s", socket.if_nametoindex(INTERFACE), PACKET_MR_PROMISC, 0, b"")
    ears.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, everything)
    ears.settimeout(LOOK_S)
    return ears


def _servers() -> list[str]:
    """Who serves scripts in this network, found by trying."""
    found = []
    for host in HOSTS_TRIED:
        try:
            with socket.create_connection((f"{DATA_NET}.{host}", HTTP_PORT), ALIVE_S):
                found.append(f"{DATA_NET}.{host}")
        except OSError:
            continue
    return found[:SERVERS_MAX]


def _made_up_uuid() -> str:
    return str(uuids.uuid4())


if __name__ == "__main__":
    Stranger(Path(sys.argv[1])).live()
