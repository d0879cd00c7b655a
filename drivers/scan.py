"""Looking through a management network: who is there, what is known of it already, and which credentials it accepts.

A BMC is only ever tried with what was given for its network (or for itself, in the inventory), each at most once a
look, and what it refused not again for an hour: wrong passwords lock accounts.
"""

import asyncio
from collections.abc import Callable, Iterable
from ipaddress import ip_address

import msgspec

from core.events import Seen
from core.identity import same_machine
from core.ids import NO_NODE, DomainId, Guid, NodeId, RackId
from core.records import MachineRecord
from drivers.access import endpoint
from drivers.bmc import Bmc
from drivers.calls import CallCounts
from drivers.discovery import Answered, ask
from drivers.inventory import BmcTable, Inventory, Machine
from drivers.networks import INVENTORY, IPMI_PORT, NetworkTable
from drivers.redfish_root import Root, ask_roots
from drivers.roster import address_and_port, table_of
from drivers.scan_login import TOO_LATE, Login, Logins

SEARCH_PART = 0.6
"""The part of a look's time that is for finding; the rest is for logging in."""
WINDOW = 640
"""Addresses of one look. Every silent address of our own subnet takes a place among the kernel's neighbours, 1,024 by
default, for ``WINDOW_MS``: with all of them taken nobody new can be spoken to, on any network. Source: Linux,
net/core/neighbour.c, ``gc_thresh3`` and ``neigh_forced_gc``; measured: a whole /20 at once, then nobody was found."""
WINDOW_MS = 5_500
REFUSES = "refuses"
"""How the problem begins of a BMC that was tried: whoever looks next need not try it at once."""
ONCE = "looking again and again, each is tried once an hour, or when its file was changed"
NAMELESS_MAX = 3
"""So many looks may miss a BMC's identity before it counts as one that has none."""


class Sighting(msgspec.Struct, frozen=True, kw_only=True):
    """One address at which a BMC answered. ``seen``: what a machine is told of it, None: nothing yet.

    ``access``: the credentials that it accepts ("": none, or not tried); ``known_as``: the node that it is, of the
    inventory or found before; ``on``: its power, where that was read.
    """

    address: str
    answered: Answered
    redfish: Root | None = None
    seen: Seen | None = None
    known_as: NodeId = NO_NODE
    access: str = ""
    problem: str = ""
    on: bool | None = None


class _Place(msgspec.Struct, frozen=True):
    """One address: what it answered, what is on record of it, and what the inventory has there."""

    address: str
    answered: Answered
    redfish: Root | None
    record: MachineRecord | None
    listed: Machine | None


class Scans:
    """All looks of one process. ``inventory``: what is given; ``records``: what is on record of machines.

    ``bmc_of`` makes the driver of a BMC.
    """

    def __init__(
        self,
        inventory: Inventory,
        records: Callable[[], Iterable[MachineRecord]],
        bmc_of: Callable[[BmcTable], Bmc | None],
        now_ms: Callable[[], int],
    ) -> None:
        self._inventory = inventory
        self._records = records
        self._now_ms = now_ms
        self._logins = Logins(bmc_of, now_ms)
        self._nameless: dict[str, int] = {}
        self._turns: dict[str, int] = {}

    def counts(self) -> CallCounts:
        """Return how many logins wait and run."""
        return self._logins.counts()

    def network(self, name: str) -> NetworkTable | None:
        """The management network of this name."""
        return next((one for one in self._inventory.networks if one.name == name), None)

    def looks(self, network: NetworkTable) -> int:
        """How many looks it takes to get through all of a network."""
        count = len(network.addresses) or network.net.num_addresses
        return 1 if count <= WINDOW else -(-count // (WINDOW - len(self._first(network))))

    def look(self, network: NetworkTable, until_ms: int, *, afresh: bool = False) -> tuple[Sighting, ...]:
        """Look through a network; every BMC that answered, in order of addresses. Blocks, until ``until_ms`` at most.

        ``afresh``: a person asks, so log in also where it is on record what comes of it. Raises: OSError without a
        network.
        """
        began_ms = self._now_ms()
        answered, roots = asyncio.run(self._find(network, began_ms + int((until_ms - began_ms) * SEARCH_PART)))
        known, listed = self._known(), self._listed()
        places = [
            _Place(
                address, answered.get(address, Answered()), roots.get(address), known.get(address), listed.get(address)
            )
            for address in sorted({*answered, *roots}, key=in_order)
        ]
        new = [place for place in places if afresh or not _settled(place)]
        begun = [self._begin(network, place, until_ms, afresh) for place in new]
        logins = dict(zip((place.address for place in new), self._logins.wait(begun, until_ms), strict=True))
        return tuple(self._sighting(network, place, logins.get(place.address)) for place in places)

    def _begin(self, network: NetworkTable, place: _Place, until_ms: int, afresh: bool) -> Login:
        """Begin to log in at a BMC with what is given for it."""
        told = not afresh and place.record is not None and place.record.problem.startswith(REFUSES)
        return self._logins.begin(place.address, _tries(network, place), until_ms, told)

    # -- finding -------------------------------------------------------------------------------------------------------

    async def _find(self, network: NetworkTable, until_ms: int) -> tuple[dict[str, Answered], dict[str, Root]]:
        addresses = self._window(network)
        ports = tuple(dict.fromkeys(a.at_port for a in network.access if a.driver == "ipmi")) or (IPMI_PORT,)
        doors = tuple(dict.fromkeys((a.at_port, a.tls) for a in network.access if a.driver == "redfish"))
        rate = max(10, network.packets_per_s_max // len(ports))
        asked, shown = await asyncio.gather(
            asyncio.gather(*(ask(addresses, rate, until_ms, port) for port in ports)),
            asyncio.gather(*(ask_roots(addresses, port, tls, until_ms) for port, tls in doors)),
        )
        answered: dict[str, Answered] = {}
        for found in asked:
            for address, one in found.items():
                answered[address] = answered.get(address, Answered()).plus(one)
        return answered, {address: root for roots in shown for address, root in roots.items()}

    def _window(self, network: NetworkTable) -> tuple[str, ...]:
        """The addresses of this look: of a large network who is known, and the next part of the others."""
        hosts = network.hosts
        if network.addresses:
            hosts = tuple(dict.fromkeys((*hosts, *self._first(network))))
        if len(hosts) <= WINDOW:
            return hosts
        first, turn = self._first(network), self._turns.get(network.name, 0) % len(hosts)
        self._turns[network.name] = turn + WINDOW - len(first)
        return tuple(dict.fromkeys((*first, *(hosts[turn:] + hosts[:turn])[: WINDOW - len(first)])))

    def _first(self, network: NetworkTable) -> tuple[str, ...]:
        """Whoever is known in a network: they are asked in every look."""
        return tuple(address for address in (*self._known(), *self._listed()) if network.has(address))[: WINDOW // 2]

    # -- what is known -------------------------------------------------------------------------------------------------

    def _known(self) -> dict[str, MachineRecord]:
        """The machines on record by their BMC's address; one that is a node rather than one that is none."""
        found: dict[str, MachineRecord] = {}
        for record in self._records():
            if record.bmc and not record.retired:
                address = address_and_port(record.bmc)[0]
                if address not in found or record.node:
                    found[address] = record
        return found

    def _listed(self) -> dict[str, Machine]:
        """The machines of the inventory by their BMC's address."""
        machines = self._inventory.machines.values()
        return {machine.bmc.address: machine for machine in machines if machine.bmc.driver != "none"}

    # -- what is told --------------------------------------------------------------------------------------------------

    def _sighting(self, network: NetworkTable, place: _Place, login: Login | None) -> Sighting:
        record, guid = place.record, place.answered.guid or (login.guid if login is not None else "")
        access = login.access if login is not None else (record.access if record is not None else "")
        if login is None and record is not None:
            guid = record.guid
        bmc = endpoint(place.address, IPMI_PORT)
        if login is not None and login.table is not None:
            bmc = endpoint(place.address, login.table.port or IPMI_PORT)
        elif record is not None:
            bmc = record.bmc
        machine, problem = self._whose(place, guid)
        problem = problem or _problem(network, place, login)
        seen: Seen | None = Seen(
            bmc=bmc,
            guid=Guid(guid),
            rack=RackId(machine.rack if machine is not None else network.rack),
            power_domain=DomainId(machine.power_domain if machine is not None else network.power_domain),
            node=NodeId(machine.id) if machine is not None else NO_NODE,
            number=machine.number if machine is not None else 0,
            access=access if not problem else "",
            problem=problem,
        )
        if (login is not None and login.silent == TOO_LATE) or not self._is_named(place.address, guid):
            seen = None  # the next look will know more
        return Sighting(
            address=place.address,
            answered=place.answered,
            redfish=place.redfish,
            seen=seen,
            known_as=self._name(place, machine, guid),
            access=access,
            problem=problem,
            on=login.on if login is not None else None,
        )

    def _whose(self, place: _Place, guid: str) -> tuple[Machine | None, str]:
        """The machine of the inventory that this is; or why it is not what the inventory says."""
        listed = place.listed
        named = next((m for m in self._inventory.machines.values() if m.uuid and same_machine(guid, m.uuid)), None)
        if listed is not None and listed.uuid and guid and not same_machine(guid, listed.uuid):
            return None, f"shows the identity {guid}, not that of {listed.id}, whose BMC should be here"
        if named is not None and named.bmc.driver != "none" and named is not listed:
            return None, f"shows the identity of {named.id}, whose BMC should be at {named.bmc.address}"
        return listed or named, ""

    def _name(self, place: _Place, machine: Machine | None, guid: str) -> NodeId:
        """The node that a machine is known as."""
        if machine is not None:
            return NodeId(machine.id)
        if guid:
            return next((r.node for r in self._records() if r.node and same_machine(r.guid, guid)), NO_NODE)
        return place.record.node if place.record is not None else NO_NODE

    def _is_named(self, address: str, guid: str) -> bool:
        """Whether a BMC's identity is known, or has been missed so often that it has none."""
        if guid:
            self._nameless.pop(address, None)
            return True
        self._nameless[address] = self._nameless.get(address, 0) + 1
        return self._nameless[address] >= NAMELESS_MAX


def _tries(network: NetworkTable, place: _Place) -> list[tuple[str, BmcTable]]:
    """What may be tried at an address, in order, by name."""
    if place.listed is not None:
        return [(INVENTORY, place.listed.bmc)]
    accesses = [one for one in network.access if (place.redfish if one.driver == "redfish" else place.answered.ipmi)]
    return [(one.name, table_of(one, place.address, 0)) for one in accesses]


def _settled(place: _Place) -> bool:
    """Whether all that a login would tell is on record."""
    record, guid = place.record, place.answered.guid
    if record is None or not (record.node and record.access):
        return False
    return not guid or same_machine(record.guid, guid)


def _problem(network: NetworkTable, place: _Place, login: Login | None) -> str:
    """Why a BMC cannot be used, as it will be said again the next time; "" if it can."""
    if place.answered.other_guid:
        return f"sends two identities, {place.answered.guid} and {place.answered.other_guid}"
    if login is None or login.access:
        return ""
    if login.untrusted:
        return f"is not trusted, so it was sent no password: {login.untrusted}"
    if login.refused:
        return f"{REFUSES} every credential given for it ({', '.join(login.refused)}); {ONCE}"
    if login.broken:
        return f"cannot be tried: {login.broken}"
    if login.silent:
        return "answers, yet nobody can log in: " + login.silent
    if not network.access:
        return f"no [[network.access]] is given for {network.name}, so it is left alone"
    return "speaks nothing that the credentials given for it are for"


def in_order(address: str) -> tuple[int, int]:
    """Where an address stands among others."""
    parsed = ip_address(address)
    return parsed.version, int(parsed)
