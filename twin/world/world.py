"""One simulated rack, built whole from its files and a seed; everything in it hangs on one kernel."""

from collections.abc import Callable
from functools import partial
from typing import Literal, TypeVar

import msgspec

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
from trial.scenario import Boots, Fidelity
from twin import calibration as calibrations
from twin.calibration import Calibration
from twin.checkers import Setup
from twin.host import Brain, Host
from twin.kernel import Kernel
from twin.recorder import Recorder
from twin.streams import Streams
from twin.truth import NodeChange, Truth
from twin.world import strangers
from twin.world.agents import AgentSlot, AgentTimes
from twin.world.boots import BYTES_OF_MB, pace_of
from twin.world.build import CLIENTS, cable, chassis_specs, coalesce_of, first_voters, in_places, storage_layout
from twin.world.census import Census
from twin.world.clients import ClientLoad, Clients, load_in
from twin.world.clock import Clock
from twin.world.netboot import Netboot
from twin.world.operator import Operator
from twin.world.outfit import around, site_of
from twin.world.peers import Peers
from twin.world.power import Power
from twin.world.slots import FIRST_IMAGE, Slots, shared
from twin.world.storage import Storage
from twin.world.supervisor import Supervisor
from twin.world.unit import Sickness
from twin.world.upgrades import Upgrades
from twin.world.witness import Witness
from twin.world.zookeeper import Ensemble

Start = Literal["warm", "first", "dark"]
R = TypeVar("R")


class World:
    """A rack and all that happens in it.

    ``start``: "warm": every server is up at 0, the ensemble formed; "first": only the first server is up, with an
    ensemble of its own; "dark": everything is off, the disks of an earlier life intact, and at 0 somebody presses the
    power buttons of the servers that carry ZooKeeper. ``make`` builds other machines (planted bugs). ``boots``: how the
    rack finds, boots and admits machines; with ``discover`` it knows of none but the first.
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
        boots: Boots | None = None,
    ) -> None:
        self.rack, self.catalog, self.fidelity, self.start_mode = rack, catalog, fidelity, start
        self.timing = timing or Timing()
        self.recorder = journal
        self.calibration = calibration or calibrations.load()
        self.kernel = Kernel()
        self.streams = Streams(seed)
        self.truth = Truth({spec.name: spec.volume for spec in catalog.specs if spec.volume})
        self.boots = boots or Boots()
        first = next(server.id for server in rack.nodes if server.plugged)
        self.census = Census(rack, first, partial(strangers.take_in, self)) if self.boots.discover else None
        self.hardware = in_places(rack, self.census)
        self.listed = tuple(s for s in self.hardware.specs if self.census is None or self.census.is_named(s.id))
        self.specs: dict[NodeId, NodeSpec] = {spec.id: spec for spec in self.hardware.specs}
        self.services: dict[ServiceName, ServiceSpec] = {spec.name: spec for spec in catalog.specs}
        self.sick = Sickness()
        self.clocks = {node: Clock(self.kernel) for node in self.nodes}
        self.supervisors: dict[NodeId, Supervisor] = {}
        self.make = make or partial(Machine, shared={})
        self._agent_times = self.calibration.section("agent", AgentTimes)
        stream, load = self.streams.get("clients"), load_in(fidelity, clients)
        self.clients = Clients(self.kernel, stream, self.truth, load, self.supervisors.get)
        self.dirty: dict[VolumeName, bool] = {}
        self.state: dict[NodeId, str] = {}
        self.visible: dict[NodeId, bool] = {}
        self._starting = False
        self._looking = self._storage_moved = False
        self._build()

    # -- building ---------------------------------------------------------------------------------------------------

    def _build(self) -> None:
        rack = self.hardware
        plugged = [server for server in rack.nodes if server.plugged]
        first = plugged[:1] if self.start_mode == "first" else plugged
        self.voters = first_voters(first)
        self.fabric = cable(rack)
        parts = (self.kernel, self.streams, self.calibration, self.fabric)
        self.netboot = Netboot(*parts, pace_of(self.boots, self.calibration), FIRST_IMAGE)
        if self.boots.discover and self.boots.image_mb:
            self.netboot.set_image_bytes(self.boots.image_mb * BYTES_OF_MB)
        pdus = [pdu.id for pdu in rack.pdus]
        self.power = Power(*parts, self.netboot, chassis_specs(rack, "last", self.census), pdus)
        found = self.census is not None  # the storage begins on the first server, and what is found only uses it
        carriers = msgspec.structs.replace(rack, nodes=tuple(first)) if found else rack
        layout = storage_layout(carriers, self.catalog, first if found else plugged)
        self.storage = Storage(*parts, layout, self._boot_id, history=False)
        self.peers = Peers(*parts, self._is_up, self.timing.suspect_ms)
        coalesce_ms = coalesce_of(len(self.nodes)) if self.fidelity == "capacity" else 0
        self.ensemble = Ensemble(*parts, self.timing, self.peers, coalesce_ms)
        self.operator = Operator(self.kernel, self.ensemble.client(CLIENTS))
        self.first_image = FIRST_IMAGE
        self.images = shared(*parts, lambda: [node for node in self.nodes if self._is_up(node)], self._sicken)
        self.slots: dict[NodeId, Slots] = {}
        self.agents: dict[NodeId, AgentSlot] = {}
        for spec in self.listed:
            self.add_agent(spec.id)
        self.visible = {node: self._reachable(node) for node in self.nodes}
        self._listen()

    def add_agent(self, node: NodeId) -> None:
        """Let a node have a disk with slots, and an agent that starts with its operating system."""
        self.slots[node] = Slots(self.images, self.power.chassis[node], self.clocks[node].now)
        self.agents[node] = AgentSlot(around(self, node))

    def _listen(self) -> None:
        self.power.on_state(self._state_changed)
        self.power.on_up(self._came_up)
        self.power.on_down(self._went_down)
        self.power.bmc.on_proof(self.storage.proved_off)
        self.storage.on_change(self._storage_changed)
        self.ensemble.on_change(self.look_later)
        Witness(self.kernel, self.truth, self.ensemble, self.clocks, self.services).listen(self.storage, self.power)
        self.fabric.on_change(self._fabric_changed)
        strangers.watch(self)
        domains = self.domains = {node: spec.power_domain for node, spec in self.specs.items()}
        self.images.heard.append(Upgrades(self.kernel, self.truth, self.ensemble, domains).heard)

    # -- running ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Bring the rack into its first state and let the clients begin."""
        self.ensemble.bootstrap(self.voters, {}, up=self.start_mode != "dark")
        if self.start_mode == "dark":
            for node in self.voters:
                self.power.chassis[node].power_on()
        else:
            up = [s.id for s in self.hardware.nodes if s.plugged] if self.start_mode == "warm" else list(self.voters)
            self._starting = True
            self.storage.start_up(up)
            self.power.start_up(up)
            self._starting = False
        self.clients.start([s.name for s in self.services.values() if s.run == "singleton" and s.volume])

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

    @property
    def nodes(self) -> tuple[NodeId, ...]:
        """All machines by their names, in the order of the rack file."""
        return self.census.nodes if self.census is not None else self.hardware.node_ids

    @property
    def setup(self) -> Setup:
        """What the run is made from, as far as checkers need it."""
        specs = tuple(self.specs[node] for node in self.nodes)
        return Setup(nodes=specs, services=self.catalog.specs, timing=self.timing)

    def called(self, server: NodeId) -> NodeId:
        """What the server is called now that the rack file calls so."""
        return self.census.called(server) if self.census is not None else server

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
        for other in sorted(self.agents):
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
        live = [(node, self.agents[node].host) for node in sorted(self.agents)]
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
        self.clients.stir()
        return self.truth.fault_begins(kind, text, nodes, self.kernel.now)

    def fault_ends(self, mark: FaultMark) -> None:
        """Record that a fault is removed now."""
        self.clients.stir()
        self.truth.fault_ends(mark, self.kernel.now)

    # -- the life of nodes ------------------------------------------------------------------------------------------

    def _is_up(self, node: NodeId) -> bool:
        return self.state.get(node) == "up"

    def _sicken(self, node: NodeId, on: bool) -> None:
        """Keep every service of a node from becoming healthy, or end that."""
        for service in self.services:
            if on:
                self.sick.add(service, node)
            else:
                self.sick.remove(service, node)

    def _boot_id(self, node: NodeId) -> BootId:
        return self.power.chassis[node].boot_id

    def _state_changed(self, node: NodeId, state: str, boot_id: BootId) -> None:
        before, self.state[node] = self.state.get(node, "off"), state
        now = self.kernel.now
        self.truth.nodes.append(NodeChange(at_ms=now, node=node, axis="power", state=state, boot_id=boot_id))
        if state == "frozen":
            self._froze(node)
        elif before == "frozen" and state == "up":
            self._thawed(node)
        self.peers.node_changed(node)

    def _froze(self, node: NodeId) -> None:
        if node not in self.supervisors:
            return
        self.supervisors[node].freeze()
        self.agents[node].pause()
        self.ensemble.server_freeze(node)
        self.storage.freeze_node(node)

    def _thawed(self, node: NodeId) -> None:
        if node not in self.supervisors:
            return
        self.supervisors[node].thaw()
        self.storage.thaw_node(node)
        self.ensemble.server_thaw(node)
        self.agents[node].resume()

    def _came_up(self, node: NodeId, boot_id: BootId) -> None:
        """An operating system runs: where machines are admitted, ours enters the rack with a certificate only."""
        chassis = self.power.chassis[node]
        if self.census is None or (chassis.certified and not chassis.from_network and not chassis.foreign):
            self._enter(node, boot_id)
        elif chassis.from_network:
            self.netboot.join(node, lambda: chassis.boot_id == boot_id, partial(self._admitted, node, boot_id))

    def _admitted(self, node: NodeId, boot_id: BootId, ok: bool) -> None:
        if ok:
            chassis = self.power.chassis[node]
            chassis.certified = chassis.installed = True
            chassis.foreign = False
            self._enter(node, boot_id)

    def _enter(self, node: NodeId, boot_id: BootId) -> None:
        if self.census is not None:
            self.netboot.server_up(node)
        supervisor = Supervisor(site_of(self, node, boot_id))
        self.supervisors[node] = supervisor
        if not self._starting:
            self.storage.node_up(node)
            self.ensemble.server_up(node)
        self.slots[node].came_up(boot_id)
        if self.slots[node].flaw == "no_agent":
            return
        delay = self._agent_times.warm_ms if self._starting else self._agent_times.start_ms
        self.agents[node].os_up(supervisor, delay.draw(self.streams.get(f"boots/{node}")))

    def _went_down(self, node: NodeId) -> None:
        if node not in self.agents:
            return
        self.slots[node].went_down()
        self.agents[node].os_down()
        supervisor = self.supervisors.pop(node, None)
        if supervisor is not None:
            supervisor.die()
        self.storage.kill_node(node)
        self.ensemble.server_down(node, silent=True)

    def explicit(self, node: NodeId, service: ServiceName) -> None:
        """The beats of a service go without events no more."""
        host = self.agents[node].host
        if host is not None:
            host.release(service)

    # -- changes ----------------------------------------------------------------------------------------------------

    def look_later(self) -> None:
        """Look at evidence and storage once in this millisecond, however much changes in it."""
        if not self._looking:
            self._looking = True
            self.kernel.after(0, self._look)

    def _storage_changed(self) -> None:
        self._storage_moved = True
        self.look_later()

    def _look(self) -> None:
        self._looking = False
        self.clients.stir()
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
            if visible != self.visible[node]:
                self.visible[node] = visible
                supervisor = self.supervisors.get(node)
                if supervisor is not None:
                    supervisor.visibility_changed()
        self.look_later()

    def _reachable(self, node: NodeId) -> bool:
        return self.fabric.both_ways(CLIENTS, node)
