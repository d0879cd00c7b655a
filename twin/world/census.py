"""Which machine is which node of the rack: known from the inventory, or found by its BMC and named by the core.

A machine that nobody has named yet goes by the name of its place (``slot:n7`` for the server that the rack file calls
``n7``) and gets that of a node with its record. From then on the place is remembered for faults only.
"""

from collections.abc import Callable, Iterable, Sequence

from core.events import Seen
from core.ids import NO_NODE, Guid, NodeId, RackId
from core.records import AnyRecord, MachineRecord
from formats.hardware import RackFile, Server
from twin.world.identity import Identity, identity_of

PLACE = "slot:"
ACCESS = "admin"
BMC_PORT = 623


class Census:
    """The machines of a rack in which nobody but the first one is listed; ``nodes`` are their names now."""

    def __init__(self, rack: RackFile, first: NodeId, on_named: Callable[[NodeId, NodeId], None]) -> None:
        """``on_named(place, node)`` is told when the machine of a place has become a node."""
        self.networks: tuple[str, ...] = tuple(str(name) for name in rack.racks)
        self.identities: dict[NodeId, Identity] = {}
        self._on_named = on_named
        self._first = first
        self._names: dict[NodeId, NodeId] = {}
        self._places: dict[NodeId, NodeId] = {}
        self._servers: dict[NodeId, Server] = {}
        self._address: dict[NodeId, str] = {}
        self._listings: dict[str, tuple[NodeId, ...]] = {}
        self._by_guid: dict[Guid, NodeId] = {}
        self._retired: dict[Guid, NodeId] = {}
        self.nodes: tuple[NodeId, ...] = ()
        numbers: dict[RackId, int] = {}
        for server in rack.nodes:
            number = numbers[server.spec.rack] = numbers.get(server.spec.rack, 0) + 1
            self._take(server, rack.racks.index(server.spec.rack), number)
        self._renew()

    def _take(self, server: Server, rack: int, number: int) -> None:
        place = self.place_of(server.id)
        self._names[place] = place
        self._places[place] = place
        self._servers[place] = server
        self._address[place] = f"10.{200 + rack // 250}.{rack % 250}.{number}:{BMC_PORT}"
        identity = self.identities[place] = identity_of(server.id)
        self._by_guid[identity.guid] = place

    def place_of(self, server: NodeId) -> NodeId:
        """The place of the server that the rack file calls so; the first one keeps its name."""
        return server if server == self._first else NodeId(PLACE + server)

    def called(self, name: NodeId) -> NodeId:
        """What the server that the rack file calls so (or the machine of a place) is called now."""
        return self._names.get(self.place_of(name)) or self._names.get(name, name)

    def server(self, node: NodeId) -> Server:
        """The hardware behind a name."""
        return self._servers[self._places[node]]

    def is_named(self, node: NodeId) -> bool:
        """Whether a machine is a node of the rack."""
        return not node.startswith(PLACE)

    def unnamed(self) -> Iterable[NodeId]:
        """The machines that are no nodes, in order of their places."""
        return (name for name in self.nodes if name.startswith(PLACE))

    # -- the management networks ---------------------------------------------------------------------------------------

    def listing(self, network: str) -> Sequence[NodeId]:
        """The machines whose BMCs have an address there, in order of addresses."""
        found = self._listings.get(network)
        if found is None:
            here = [place for place, server in self._servers.items() if server.spec.rack == network]
            here.sort(key=lambda place: tuple(int(part) for part in self._address[place].partition(":")[0].split(".")))
            found = self._listings[network] = tuple(self._names[place] for place in here)
        return found

    def seen(self, node: NodeId, problem: str) -> Seen:
        """What an answer of a machine's BMC tells; ``problem``: why nobody could log in."""
        place = self._places[node]
        spec, listed = self._servers[place].spec, place == self._first
        return Seen(
            bmc=self._address[place],
            guid=self.identities[place].guid,
            rack=spec.rack,
            power_domain=spec.power_domain,
            node=place if listed else NO_NODE,
            number=1 if listed else 0,
            access="" if problem else ACCESS,
            problem=problem,
        )

    def take_address(self, node: NodeId, of: NodeId) -> None:
        """Cable a machine's BMC where that of another one was, which gets the address that becomes free."""
        here, there = self._places[node], self._places[of]
        self._address[here], self._address[there] = self._address[there], self._address[here]
        self._listings.clear()

    # -- what the core makes of it -------------------------------------------------------------------------------------

    def learn(self, record: AnyRecord | None) -> dict[Guid, NodeId]:
        """Take up a record of a machine as it is committed; return those that were retired for good."""
        if isinstance(record, MachineRecord):
            place = self._by_guid.get(record.guid)
            if record.node and place is not None and self._names[place] == place != record.node:
                self._names[place], self._places[record.node] = record.node, place
                del self._places[place]
                self._renew()
                self._on_named(place, record.node)
            if record.retired:
                self._retired[record.guid] = record.node
        return self._retired

    def _renew(self) -> None:
        self._listings.clear()
        self.nodes = tuple(self._names.values())
