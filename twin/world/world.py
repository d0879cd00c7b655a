"""One simulated rack, built whole from its files and a seed; everything in it hangs on one kernel."""

from collections.abc import Callable
from functools import partial
from typing import Literal, TypeVar

from core import invariants
from core.ids import NO_NODE, BootId, NodeId, ServiceName, VolumeName
from core.journal import Opening
from core.machine import Machine
from core.records import (
    MEMBERS,
    AnyRecord,
    LeaseRecord,
    MemberRecord,
    lease_path,
)
from core.specs import NodeSpec, ServiceSpec, Timing
from formats.catalog import Catalog
from formats.hardware import RackFile
from trial.marks import FaultMark
from trial.scenario import Fidelity
from twin import calibration as calibrations
from twin.calibration import Calibration
from twin.checkers import Setup
from twin.host import Brain, Host
from twin.kernel import Kernel
from twin.recorder import Recorder
from twin.streams import Streams
from twin.truth import NodeChange, Truth
from twin.world.agents import AgentSlot, AgentTimes, Around
from twin.world.build import CLIENTS, cable, chassis_specs, first_voters, pace, storage_layout
from twin.world.clients import ClientLoad, Clients, load_in
from twin.world.clock import Clock
from twin.world.netboot import Netboot
from twin.world.operator import Operator
from twin.world.peers import Peers
from twin.world.power import Power
from twin.world.slots import Slots
from twin.world.storage import Storage
from twin.world.supervisor import Supervisor
from twin.world.unit import Sickness, Site
from twin.world.witness import Witness
from twin.world.zookeeper import Ensemble

Start = Literal["warm", "first", "dark"]
R = TypeVar("R")

COALESCE_MS = 1_000
"""In capacity fidelity news of joining nodes wait this long for more of them."""
CHECK_EVERY: dict[Fidelity, int] = {"protocol": 1, "campaign": 1, "capacity": 64}
"""Steps of one machine between two looks at its invariants."""


class World:
    """A rack and all that happens in it.

    ``start``: "warm": every server is up at 0, the ensemble formed; "first": only the first server is up, with an
    ensemble of its own; "dark": everything is off, the disks of an earlier life intact, and at 0 somebody presses the
    power buttons of the servers that carry ZooKeeper. ``make`` builds other machines (planted bugs).
    """

    def __init__(
        self,
        rack: RackFile,
        catalog: Catalog,
        *,
        seed: int,
        fidelity: Fidelity = "protocol",
        start: Start = "warm",
        timing: Timing | None = None,
        clients: ClientLoad | None = None,
        journal: Recorder | None = None,
        calibration: Calibration | None = None,
        make: Callable[[Opening], Brain] | None = None,
    ) -> None:
        self.rack, self.catalog, self.fidelity, self.start_mode = rack, catalog, fidelity, start
        self.timing = timing or Timing()
        self.recorder = journal
        self.calibration = calibration or calibrations.load()
        self.kernel = Kernel()
        self.streams = Streams(seed)
        self.truth = Truth({spec.name: spec.volume for spec in catalog.specs if spec.volume})
        self.nodes: tuple[NodeId, ...] = rack.node_ids
        self.specs: dict[NodeId, NodeSpec] = {spec.id: spec for spec in rack.specs}
        self.services: dict[ServiceName, ServiceSpec] = {spec.name: spec for spec in catalog.specs}
        self.setup = Setup(nodes=rack.specs, services=catalog.specs, timing=self.timing)
        self.sick = Sickness()
        self.clocks = {node: Clock(self.kernel) for node in self.nodes}
        self.supervisors: dict[NodeId, Supervisor] = {}
        self._make = make or partial(Machine, shared={})
        self._agent_times = self.calibration.section("agent", AgentTimes)
        stream, load = self.streams.get("clients"), load_in(fidelity, clients)
        self._clients = Clients(self.kernel, stream, self.truth, load, self.supervisors.get)
        self._dirty: dict[VolumeName, bool] = {}
        self._state: dict[NodeId, str] = {}
        self._visible: dict[NodeId, bool] = {}
        self._starting = False
        self._looking = self._storage_moved = False
        self._build()

    # -- building ---------------------------------------------------------------------------------------------------

    def _build(self) -> None:
        plugged = [server for server in self.rack.nodes if server.plugged]
        first = plugged[:1] if self.start_mode == "first" else plugged
        self.voters = first_voters(first)
        self.fabric = cable(self.rack)
        parts = (self.kernel, self.streams, self.calibration, self.fabric)
        self.netboot = Netboot(*parts)
        pdus = [pdu.id for pdu in self.rack.pdus]
        self.power = Power(*parts, self.netboot, chassis_specs(self.rack, "last"), pdus)
        layout = storage_layout(self.rack, self.catalog, plugged)
        self.storage = Storage(*parts, layout, self._boot_id, history=False)
        self.peers = Peers(*parts, self._is_up, self.timing.suspect_ms)
        coalesce_ms = COALESCE_MS if self.fidelity == "capacity" else 0
        self.ensemble = Ensemble(*parts, self.timing, self.peers, coalesce_ms)
        self.operator = Operator(self.kernel, self.ensemble.client(CLIENTS))
        self.agents = {node: AgentSlot(self._around(node)) for node in self.nodes}
        self._visible = {node: self._reachable(node) for node in self.nodes}
        self._listen()

    def _listen(self) -> None:
        self.power.on_state(self._state_changed)
        self.power.on_up(self._came_up)
        self.power.on_down(self._went_down)
        self.power.bmc.on_proof(self.storage.proved_off)
        self.storage.on_change(self._storage_changed)
        self.ensemble.on_change(self._look_later)
        Witness(self.kernel, self.truth, self.ensemble, self.clocks, self.services).listen(self.storage, self.power)
        self.fabric.on_change(self._fabric_changed)

    def _around(self, node: NodeId) -> Around:
        opening = Opening(
            node=self.specs[node], timing=self.timing, services=self.catalog.specs, inventory=self.rack.specs
        )
        client = self.ensemble.client(node)
        client.on_change(self._look_later)
        return Around(
            opening=opening,
            kernel=self.kernel,
            clock=self.clocks[node],
            stream=self.streams.get(f"agent/{node}"),
            times=self._agent_times,
            recorder=self.recorder,
            truth=self.truth,
            make=self._make,
            client=client,
            storage=self.storage.port(node, self.clocks[node].now),
            power=self.power.port(node, self.clocks[node].now),
            netboot=self.netboot.port(node),
            image=Slots(self.clocks[node].now),
            configured=self.ensemble.configured,
            storage_seen=self.storage.reachable,
            implicit=self.fidelity != "protocol",
            check_every=CHECK_EVERY[self.fidelity],
            check=lambda machine, at_ms: invariants.check_services(machine.singletons(), node, at_ms, opening),
        )

    # -- running ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Bring the rack into its first state and let the clients begin."""
        self.ensemble.bootstrap(self.voters, {}, up=self.start_mode != "dark")
        if self.start_mode == "dark":
            for node in self.voters:
                self.power.chassis[node].power_on()
        else:
            up = [s.id for s in self.rack.nodes if s.plugged] if self.start_mode == "warm" else list(self.voters)
            self._starting = True
            self.storage.start_up(up)
            self.power.start_up(up)
            self._starting = False
        self._clients.start([s.name for s in self.services.values() if s.run == "singleton" and s.volume])

    def run_until(self, at_ms: int) -> None:
        """Let time pass."""
        self.kernel.run(at_ms)

    @property
    def hosts(self) -> dict[NodeId, Host]:
        """The latest agent process of each node that ever had one."""
        return {node: agent.host for node, agent in self.agents.items() if agent.host is not None}

    @property
    def steps(self) -> int:
        """Steps of all machines so far."""
        return sum(agent.steps for agent in self.agents.values())

    @property
    def events(self) -> int:
        """Calls that the kernel has made so far."""
        return self.kernel.events

    def digest(self) -> str:
        """Hex digest of the journal so far."""
        return self.recorder.digest() if self.recorder is not None else ""

    # -- questions --------------------------------------------------------------------------------------------------

    def holder_of(self, service: str) -> NodeId:
        """The holder of the lease, NO_NODE if there is none."""
        lease = self.ensemble.data_view(lease_path(ServiceName(service)))
        return lease.node if isinstance(lease, LeaseRecord) else NO_NODE

    def standby_of(self, service: str) -> NodeId:
        """The first member by id that does not hold the service."""
        holder = self.holder_of(service)
        return next((node for node in self.members() if node != holder), NO_NODE)

    def steward_of(self, node: NodeId) -> NodeId:
        """The first node by id whose live machine cares for ``node``."""
        for other in sorted(self.nodes):
            host = self.agents[other].host
            if host is not None and host.alive and node in host.machine.view().wards:
                return other
        return NO_NODE

    def serving_nodes(self, service: str) -> tuple[NodeId, ...]:
        """Nodes that serve a singleton to clients, or run a copy of any other service, in order of ids."""
        name = ServiceName(service)
        if self.services[name].run == "singleton":
            return self.truth.serving_nodes(name)
        return tuple(sorted(node for node, s in self.supervisors.items() if s.runs(name)))

    def members(self) -> tuple[NodeId, ...]:
        """The members by their ephemerals, in order of ids."""
        found = [self.ensemble.data_view(path) for path in self.ensemble.paths_below(MEMBERS)]
        return tuple(sorted(record.node for record in found if isinstance(record, MemberRecord)))

    def record(self, kind: type[R], path: str) -> R | None:
        """The record at ``path`` if it is of that kind."""
        found: AnyRecord | None = self.ensemble.data_view(path)
        return found if isinstance(found, kind) else None

    def pending(self) -> tuple[str, ...]:
        """What the live machines wait for and why, one sentence each."""
        live = [(node, self.agents[node].host) for node in sorted(self.nodes)]
        return tuple(
            f"{node}: {reason}"
            for node, host in live
            if host is not None and host.alive
            for reason in host.machine.view().pending
        )

    # -- faults -----------------------------------------------------------------------------------------------------

    def freeze_node(self, node: NodeId) -> None:
        """Stop everything on a node, its kernel too; it keeps its power."""
        self.power.chassis[node].freeze()

    def thaw_node(self, node: NodeId) -> None:
        """Let a frozen node go on; what its clock says has passed acts before anything else."""
        self.power.chassis[node].thaw()

    def fault_begins(self, kind: str, text: str, nodes: tuple[NodeId, ...]) -> FaultMark:
        """Record that a fault strikes now."""
        self._clients.stir()
        return self.truth.fault_begins(kind, text, nodes, self.kernel.now)

    def fault_ends(self, mark: FaultMark) -> None:
        """Record that a fault is removed now."""
        self._clients.stir()
        self.truth.fault_ends(mark, self.kernel.now)

    # -- the life of nodes ------------------------------------------------------------------------------------------

    def _is_up(self, node: NodeId) -> bool:
        return self._state.get(node) == "up"

    def _boot_id(self, node: NodeId) -> BootId:
        return self.power.chassis[node].boot_id

    def _state_changed(self, node: NodeId, state: str, boot_id: BootId) -> None:
        before, self._state[node] = self._state.get(node, "off"), state
        now = self.kernel.now
        self.truth.nodes.append(NodeChange(at_ms=now, node=node, axis="power", state=state, boot_id=boot_id))
        if state == "frozen":
            self._froze(node)
        elif before == "frozen" and state == "up":
            self._thawed(node)
        self.peers.node_changed(node)

    def _froze(self, node: NodeId) -> None:
        self.supervisors[node].freeze()
        self.agents[node].pause()
        self.ensemble.server_freeze(node)
        self.storage.freeze_node(node)

    def _thawed(self, node: NodeId) -> None:
        self.supervisors[node].thaw()
        self.storage.thaw_node(node)
        self.ensemble.server_thaw(node)
        self.agents[node].resume()

    def _came_up(self, node: NodeId, boot_id: BootId) -> None:
        site = Site(
            node=node,
            boot_id=boot_id,
            kernel=self.kernel,
            clock=self.clocks[node],
            truth=self.truth,
            probes=self.storage,
            pace=pace(self.catalog, self.calibration, self.streams.get(f"services/{node}")),
            services=self.services,
            sick=self.sick,
            dirty=self._dirty,
            visible=self._visible.__getitem__,
            on_explicit=self._explicit,
            on_serving=self._clients.stir,
            quirks=self.power.chassis[node].quirks,
            implicit=self.fidelity != "protocol",
        )
        supervisor = Supervisor(site)
        self.supervisors[node] = supervisor
        if not self._starting:
            self.storage.node_up(node)
            self.ensemble.server_up(node)
        delay = self._agent_times.warm_ms if self._starting else self._agent_times.start_ms
        self.agents[node].os_up(supervisor, delay.draw(self.streams.get(f"boots/{node}")))

    def _went_down(self, node: NodeId) -> None:
        self.agents[node].os_down()
        supervisor = self.supervisors.pop(node, None)
        if supervisor is not None:
            supervisor.die()
        self.storage.kill_node(node)
        self.ensemble.server_down(node, silent=True)

    def _explicit(self, node: NodeId, service: ServiceName) -> None:
        host = self.agents[node].host
        if host is not None:
            host.release(service)

    # -- changes ----------------------------------------------------------------------------------------------------

    def _look_later(self) -> None:
        """Look at evidence and storage once in this millisecond, however much changes in it."""
        if not self._looking:
            self._looking = True
            self.kernel.after(0, self._look)

    def _storage_changed(self) -> None:
        self._storage_moved = True
        self._look_later()

    def _look(self) -> None:
        self._looking = False
        self._clients.stir()
        moved, self._storage_moved = self._storage_moved, False
        for node, supervisor in list(self.supervisors.items()):
            if supervisor.evidence.beating:
                supervisor.evidence.reevaluate()
            agent = self.agents[node]
            if moved or agent.unlooked:
                agent.storage_changed()

    def _fabric_changed(self) -> None:
        for node in self.nodes:
            visible = self._reachable(node)
            if visible != self._visible[node]:
                self._visible[node] = visible
                supervisor = self.supervisors.get(node)
                if supervisor is not None:
                    supervisor.visibility_changed()
        self._look_later()

    def _reachable(self, node: NodeId) -> bool:
        return self.fabric.both_ways(CLIENTS, node)
